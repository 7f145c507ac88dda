//! What crosses the wire.

use fedistill_protocol::blob::{
    Assembler, CHUNK_HEADER_BYTES, ChunkHeader, REQUEST_BYTES, Request, chunks,
};
use fedistill_protocol::frame::{self, HEADER_BYTES, Header};
use fedistill_protocol::{
    About, AnswerKind, Answers, Digest, Kind, Knowledge, Message, Phase, Precision, RoundPlan,
    TransferSet, Version, ans, entropy,
};

/// More values than this are decoded in other tests: bytes that say so take long and show nothing new.
const MANY_VALUES: u64 = 1 << 16;

fn message(bytes: &[u8]) -> Option<(Version, Message)> {
    let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let header = Header::parse(*header).ok()?;
    assert!(header.length() <= header.kind().limit());
    Some((header.version(), frame::decode(header, body).ok()?))
}

/// A frame, whole.
pub(crate) fn frame(bytes: &[u8]) -> bool {
    let Some((version, read)) = message(bytes) else {
        return false;
    };
    let written = frame::encode_in(version, &read).expect("what was read can be written");
    // Numbers have one form when written; of the two forms of a list one is taken, which may be some bytes longer.
    assert!(
        written.len() <= bytes.len() + bytes.len() / 8 + 16,
        "it grew"
    );
    let (_, again) = message(&written).expect("what was written can be read");
    // Bytes, as a plan may hold what equals nothing, not even itself.
    assert_eq!(frame::encode_in(version, &again).ok(), Some(written));
    // Whoever speaks another version gets it too, unless that makes it too long.
    for other in Version::ALL {
        if let Ok(translated) = frame::translate(other, bytes) {
            assert_eq!(
                message(&translated).map(|(version, _)| version),
                Some(other)
            );
        }
    }
    true
}

/// The body of a plan's frame, and what a client asks of a plan before it trusts it.
pub(crate) fn plan(body: &[u8]) -> bool {
    const SAMPLES: u32 = 80_000;
    const CLASSES: u32 = 2;
    let mut bytes = vec![Version::LATEST.number(), Kind::Plan.number()];
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(body);
    let Some((_, Message::Plan(plan))) = message(&bytes) else {
        return false;
    };
    if plan.check(plan.transfer, SAMPLES, CLASSES).is_err() {
        return false;
    }
    hold(&plan, SAMPLES, CLASSES);
    true
}

/// A plan that has passed its check asks for nothing that is not there, and has limits.
fn hold(plan: &RoundPlan, samples: u32, classes: u32) {
    let within = |about: &About| match about {
        About::Rows(rows) => {
            assert!(rows.iter().all(|row| row < samples));
            assert_eq!(rows.iter().count(), rows.count() as usize);
        }
        About::Classes => {}
    };
    let mut all = 0;
    for knowledge in &plan.knowledge {
        within(&knowledge.about);
        assert!(knowledge.bytes <= knowledge.most_bytes(classes));
        let values = u64::from(knowledge.about.count(classes)) * u64::from(knowledge.width);
        all += values;
        assert!(all <= Answers::MOST_VALUES);
        let is_wide = knowledge.width > Knowledge::MOST_FEATURES;
        assert!(knowledge.width == classes || !is_wide);
    }
    if let Some(report) = &plan.report {
        within(&report.about);
        assert!(report.most_bytes(classes) >= Answers::HEADER_BYTES as u64);
    }
    assert!(plan.phases.len() <= RoundPlan::MOST_PHASES);
    for phase in &plan.phases {
        assert!(phase.batch > 0 && (1..=Phase::MOST_TERMS).contains(&phase.objective.len()));
        for term in &phase.objective {
            assert!(!term.loss.is_of_pairs() || phase.batch <= Phase::MOST_PAIRED);
            assert!(
                [0, 1, 65_535]
                    .map(|epoch| term.weight_at(epoch))
                    .iter()
                    .all(|w| *w >= 0.0)
            );
        }
    }
}

/// Packed answers of whatever shape they say.
pub(crate) fn answers(bytes: &[u8]) -> bool {
    if let Some([r0, r1, r2, r3, c0, c1, c2, c3]) = bytes.get(4..).and_then(|b| b.first_chunk()) {
        let rows = u32::from_le_bytes([*r0, *r1, *r2, *r3]);
        let classes = u32::from_le_bytes([*c0, *c1, *c2, *c3]);
        let values = u64::from(rows) * u64::from(classes);
        if (MANY_VALUES..=Answers::MOST_VALUES).contains(&values) {
            return false;
        }
    }
    let Ok(read) = Answers::read(bytes) else {
        return false;
    };
    assert!(read.values().iter().all(|value| value.is_finite()));
    let (kind, rows, classes) = (read.kind(), read.rows(), read.classes());
    assert_eq!(
        read.values().len() as u64,
        u64::from(rows) * u64::from(classes)
    );
    for precision in Precision::ALL
        .into_iter()
        .chain([Precision::Top(2), Precision::Peak])
    {
        let versions = Version::ALL.into_iter();
        let backs = versions.map(|version| {
            let packed = read.pack_for(version, precision);
            assert!(packed.len() as u64 <= Answers::most_bytes(kind, rows, classes, precision));
            Answers::unpack(&packed, kind, rows, classes).expect("what was packed unpacks")
        });
        for back in backs.collect::<Vec<_>>().windows(2) {
            assert_eq!(back[0], back[1], "the same for peers of all versions");
            if precision == Precision::F32 {
                assert_eq!(back[0], read);
            }
        }
    }
    true
}

/// An update, the first byte saying of which answers.
pub(crate) fn update(bytes: &[u8]) -> bool {
    let Some((which, update)) = bytes.split_first() else {
        return false;
    };
    let base = base(*which);
    let Ok(new) = base.updated(update) else {
        return false;
    };
    assert_eq!(
        (new.kind(), new.rows(), new.classes()),
        (base.kind(), base.rows(), base.classes())
    );
    for precision in Precision::ALL
        .into_iter()
        .chain([Precision::Top(2), Precision::Peak])
    {
        let Some(written) = new.update(&base, precision) else {
            continue;
        };
        let led = base
            .updated(&written)
            .expect("what was written can be read");
        assert_eq!(led.pack(precision), new.pack(precision));
    }
    true
}

/// The answers that updates start from: six rows of three, of a kind that a number chooses.
pub fn base(which: u8) -> Answers {
    let kinds = [
        AnswerKind::Logits,
        AnswerKind::Probabilities,
        AnswerKind::Features,
    ];
    let rows = [
        [0.5, 0.25, 0.25],
        [0.0, 1.0, 0.0],
        [0.0; 3],
        [0.1, 0.2, 0.7],
        [1.0, 0.0, 0.0],
        [0.2, 0.2, 0.6],
    ];
    let values = rows.into_iter().flatten().collect();
    Answers::new(kinds[usize::from(which % 3)], 3, values).expect("whole rows of finite values")
}

/// Coded symbols: a byte says by which coder, two how many.
pub(crate) fn symbols(bytes: &[u8]) -> bool {
    let Some((&[coder, low, high], coded)) = bytes.split_first_chunk::<3>() else {
        return false;
    };
    let count = usize::from(u16::from_le_bytes([low, high]));
    if coder & 1 == 0 {
        let Ok(found) = ans::decode(coded, count) else {
            return false;
        };
        assert_eq!(ans::decode(&ans::encode(&found), count), Ok(found));
        return true;
    }
    let size = u32::from(coder >> 1) + 1;
    let (mut decoder, mut model) = (entropy::Decoder::new(coded), entropy::Symbols::new(size));
    let found: Vec<u32> = (0..count).map(|_| model.read(&mut decoder)).collect();
    if decoder.finish().is_err() {
        return false;
    }
    let (mut encoder, mut model) = (entropy::Encoder::default(), entropy::Symbols::new(size));
    found
        .iter()
        .for_each(|symbol| model.write(&mut encoder, *symbol));
    assert!(encoder.finish().len() <= coded.len());
    true
}

/// A request, and a stream of chunks: the request's digest is the blob's, its offset its length.
pub(crate) fn blob(bytes: &[u8]) -> bool {
    const MOST: u64 = 1 << 17;
    let Some((request, mut stream)) = bytes.split_first_chunk::<REQUEST_BYTES>() else {
        return false;
    };
    let request_read = Request::parse(*request);
    assert_eq!(request_read.to_bytes(), *request);
    let (digest, length) = (request_read.blob, request_read.offset);
    let Ok(mut assembler) = Assembler::new(digest, length, MOST) else {
        assert!(length > MOST);
        return false;
    };
    while let Some((header, rest)) = stream.split_first_chunk::<CHUNK_HEADER_BYTES>() {
        let Ok(header) = ChunkHeader::parse(*header) else {
            return false;
        };
        let (chunk, rest) = rest.split_at(header.length().min(rest.len()));
        if assembler.push(header, chunk).is_err() {
            return false;
        }
        assert!(assembler.offset() <= length);
        stream = rest;
    }
    let Ok(whole) = assembler.finish() else {
        return false;
    };
    assert_eq!(Digest::of(&whole), digest);
    let sent: usize = chunks(&whole, 0).map(|(_, chunk)| chunk.len()).sum();
    assert_eq!(sent, whole.len());
    true
}

/// A transfer set.
pub(crate) fn transfer_set(bytes: &[u8]) -> bool {
    let Ok(set) = TransferSet::unpack(bytes) else {
        return false;
    };
    assert!(set.samples() > 0);
    assert_eq!(set.pack(), bytes, "a set has one form");
    true
}
