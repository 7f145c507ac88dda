//! Writes the seeds of all targets: `cargo run -p fedistill-decoders --example seeds [FOLDER]`, `fuzz/seeds` by default.
//!
//! They follow from the golden vectors of the protocol and from small files of each kind; the same every time.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "who runs it is told by a panic"
)]

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use fedistill_coordinator::stand_ins::file as stand_ins;
use fedistill_coordinator::{Earlier, Exchange, Sent};
use fedistill_decoders::{base, parted, stand_ins_about};
use fedistill_federation::{Lesson, State};
use fedistill_learning::{Architecture, checkpoint, idx};
use fedistill_protocol::blob::{Request, chunks};
use fedistill_protocol::{
    About, AnswerKind, Answers, Digest, Message, Precision, Rows, Version, ans, entropy, frame,
};

const FRAMES: &str = include_str!("../../../common/protocol/tests/golden/frames.txt");
const FRAMES_3: &str = include_str!("../../../common/protocol/tests/golden/frames-3.txt");
const ANSWERS: &str = include_str!("../../../common/protocol/tests/golden/answers.txt");

fn main() {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    let folder = std::env::args_os()
        .nth(1)
        .map_or_else(default, PathBuf::from);
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let folder = folder.join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    };
    wire(&write);
    files(&write);
}

fn golden(text: &'static str) -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(name, hex)| {
        let pairs = (0..hex.len()).step_by(2).map(|at| &hex[at..at + 2]);
        let bytes = pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap());
        (name, bytes.collect())
    })
}

fn wire(write: &impl Fn(&str, &str, &[u8])) {
    for (name, bytes) in golden(FRAMES_3) {
        write("frame", &format!("{name}-3"), &bytes);
    }
    for (name, bytes) in golden(FRAMES) {
        write("frame", name, &bytes);
        let (header, body) = bytes.split_first_chunk().unwrap();
        let message = frame::decode(frame::Header::parse(*header).unwrap(), body).unwrap();
        if let Message::Plan(mut plan) = message {
            // The golden one claims more than its rows may take.
            plan.knowledge[0].bytes = 400;
            let fair = frame::encode(&plan.into()).unwrap();
            write("plan", "fair", &fair[frame::HEADER_BYTES..]);
        }
    }
    // The last line is a digest.
    for (name, bytes) in golden(ANSWERS).filter(|(name, _)| !name.starts_with("many")) {
        write("answers", name, &bytes);
    }
    let values: Vec<f32> = (0..9000).map(|at| ((at * at) % 97) as f32).collect();
    let many = Answers::new(AnswerKind::Logits, 9, values).unwrap();
    write("answers", "systems", &many.pack(Precision::U8));
    let planes = many.pack_for(Version::LATEST, Precision::F16);
    write("answers", "systems-planes", &planes);
    for (which, kind) in [(0, "logits"), (1, "probabilities"), (2, "features")] {
        let old = base(which);
        let mut values = old.values().to_vec();
        values[3..6].copy_from_slice(&[0.0, 0.0, 1.0]);
        let new = Answers::new(old.kind(), 3, values).unwrap();
        for precision in [Precision::F32, Precision::U1, Precision::Peak] {
            let update = new.update(&old, precision).unwrap();
            write(
                "update",
                &format!("{kind}-{precision:?}"),
                &[vec![which], update].concat(),
            );
        }
    }
    let some: Vec<u8> = (0..300u32).map(|at| (at * at % 13) as u8).collect();
    let head = |coder: u8| [vec![coder], 300u16.to_le_bytes().to_vec()].concat();
    write(
        "symbols",
        "systems",
        &[head(0), ans::encode(&some)].concat(),
    );
    let (mut encoder, mut model) = (entropy::Encoder::default(), entropy::Symbols::new(16));
    some.iter()
        .for_each(|symbol| model.write(&mut encoder, (*symbol).into()));
    write(
        "symbols",
        "adaptive",
        &[head(15 << 1 | 1), encoder.finish()].concat(),
    );
    let blob: Vec<u8> = (0..70_000u32).map(|at| (at % 7) as u8).collect();
    for (name, length) in [("one-chunk", 100), ("two-chunks", blob.len())] {
        let part = &blob[..length];
        let request = Request {
            blob: Digest::of(part),
            offset: length as u64,
        };
        let sent =
            chunks(part, 0).flat_map(|(header, bytes)| [header.to_vec(), bytes.to_vec()].concat());
        let sent: Vec<u8> = request.to_bytes().into_iter().chain(sent).collect();
        write("blob", name, &sent);
    }
    streams(write);
    let bytes = b"\x01\0\x03\0\x02\0\0\0\x01\0\0\0\x01\0\0\0\x02\0\0\0\0\x07\xff\x09";
    write("transfer_set", "bytes", bytes);
    let floats = b"\x01\x01\x01\0\x01\0\0\0\x02\0\0\0\0\0\x80\x3f\0\0\x20\xc0";
    write("transfer_set", "floats", floats);
}

/// Steps of a client over TCP and of a coordinator's tasks, as the target says them.
fn streams(write: &impl Fn(&str, &str, &[u8])) {
    let hear = |kind: u8, stream: u8, body: &[u8]| {
        let header = [kind, 0, body.len() as u8, 0, stream, 0, 0, 0];
        [&[0, 8 + body.len() as u8], &header[..], body].concat()
    };
    let talk = [
        hear(1, 1, &[]),
        hear(2, 1, b"a question"),
        // It is taken, read and answered, and both sides end it.
        vec![2, 5, 1, 1, 4, 1, 2],
        hear(3, 1, &[]),
        vec![6, 1, 7, 1],
        hear(7, 0, &[]),
    ];
    write("streams", "talk", &talk.concat());
    // One of the coordinator's own, of which the client reads no more.
    let stopped = [
        vec![3, 4, 2, 200],
        hear(5, 2, &[]),
        hear(4, 2, &[]),
        vec![6, 2, 7, 2],
    ];
    write("streams", "stopped", &stopped.concat());
    // Windows are all but filled, read, and given back.
    let mut full = (0..4)
        .flat_map(|i| hear(1, 1 + 2 * i, &[]))
        .collect::<Vec<_>>();
    full.extend([2; 4]);
    for stream in [1, 3, 5, 7] {
        full.extend([1, stream, 250].repeat(32));
    }
    full.extend([5, 1, 255, 5, 1, 255, 5, 3, 255, 7, 5, 7, 7]);
    full.extend([1, 1, 250].repeat(8));
    write("streams", "full", &full);
    // And a window that the client gives, a stream that it breaks off, and its last word.
    let last = [
        hear(1, 1, &[]),
        vec![2, 4, 1, 255, 4, 1, 255],
        hear(6, 1, &60_000u32.to_le_bytes()),
        hear(6, 0, &60_000u32.to_le_bytes()),
        hear(4, 1, &[]),
        hear(8, 0, b"\0\0\0\0bye"),
    ];
    write("streams", "last", &last.concat());
}

fn files(write: &impl Fn(&str, &str, &[u8])) {
    let folder = tempfile::tempdir().unwrap();
    let images = idx::Array {
        shape: vec![2, 2, 3],
        values: idx::Values::U8((0..12).collect()),
    };
    for (name, file) in [("raw", "images"), ("gzip", "images.gz")] {
        let path = folder.path().join(file);
        idx::write(&path, &images).unwrap();
        write("idx", name, &fs::read(path).unwrap());
    }
    let floats = b"\0\0\x0d\x02\0\0\0\x01\0\0\0\x02\x3f\x80\0\0\xc0\x20\0\0";
    write("idx", "floats", floats);
    write(
        "table",
        "two-classes",
        b"wind,kind,rain\n1.5,storm,2\n-3,calm,0\n\"4\",\"calm\",1e3\n",
    );
    let picture =
        image::RgbImage::from_fn(6, 5, |x, y| image::Rgb([x as u8 * 40, y as u8 * 50, 7]));
    for (name, format) in [
        ("png", image::ImageFormat::Png),
        ("jpeg", image::ImageFormat::Jpeg),
    ] {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        write("image", name, bytes.get_ref());
    }
    let net = Architecture::MlpS.build(&[2], 2, 1).unwrap();
    let about = checkpoint::About {
        architecture: Some(Architecture::MlpS),
        input: vec![2],
        classes: vec!["calm".to_owned(), "storm".to_owned()],
    };
    let path = folder.path().join("model");
    checkpoint::save(&path, &net, &about, None).unwrap();
    write("checkpoint", "mlp-s", &fs::read(path).unwrap());
    let about = stand_ins_about();
    for (name, silent) in [("all", 0), ("some", 3)] {
        let mut values: Vec<f32> = (0..12).map(|at| (at * at % 7) as f32 - 3.5).collect();
        values[..silent].fill(0.0);
        let logits = Answers::new(AnswerKind::Logits, about.classes, values).unwrap();
        write("probes", name, &stand_ins::encode(&about, &logits));
    }
    write("state", "of-all", &parted(&state(), &exchange()));
    let sgd = "precision = \"u8\"\nrounds = 3\noptimiser = { sgd = { learning-rate = 0.1, momentum = 0.9 } }\n";
    write("config", "sgd", sgd.as_bytes());
    let adamw = "precision = \"f16\"\n[optimiser.adamw]\nlearning-rate = 1e-3 # usual\nweight-decay = 0.01\n";
    write("config", "adamw", adamw.as_bytes());
}

fn lesson(kind: AnswerKind, about: About) -> Lesson {
    let values = (0..4).map(|value| value as f32 / 8.0).collect();
    let answers = Answers::new(kind, 2, values).unwrap();
    Lesson { about, answers }
}

/// With something of each kind.
fn state() -> State {
    let rows = About::Rows(Rows::of(vec![3, 9]));
    let own = vec![lesson(AnswerKind::Features, About::Classes)];
    State {
        common: vec![lesson(AnswerKind::Probabilities, rows)],
        personal: [("ward-1".parse().unwrap(), own)].into(),
        memory: vec![1, 2, 3],
        decided: [("trust".to_owned(), 0.1)].into(),
    }
}

fn exchange() -> Exchange {
    let lesson = lesson(AnswerKind::Logits, About::Rows(Rows::of(vec![1, 2])));
    let blob = Digest::of(b"sent");
    let sent = vec![Sent { blob, lesson }];
    let given = (Digest::of(b"given"), b"given"[..].into());
    Exchange {
        earlier: vec![Earlier {
            changed: sent.clone(),
            held_by: ["ward-2".parse().unwrap()].into(),
        }],
        held_by: ["ward-1".parse().unwrap()].into(),
        sent,
        given: [("ward-1".parse().unwrap(), given)].into(),
    }
}
