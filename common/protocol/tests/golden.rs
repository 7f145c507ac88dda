//! Golden vectors: the bytes of this version, and another crate that reads and writes the same ones.
//!
//! If a vector has to change, [`fedistill_protocol::VERSION`] does too.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use fedistill_protocol::blob::Request;
use fedistill_protocol::frame::{self, HEADER_BYTES, Header};
use fedistill_protocol::{
    About, AnswerKind, Answers, Contribution, Density, Digest, Elements, Goodbye, Heartbeat, Hello,
    Knowledge, Loss, LossTerm, Message, Optimiser, Phase, PhaseData, Precision, Ramp, Receipt,
    Refusal, RejectReason, Rejected, Report, RoundId, RoundPlan, Rounding, Rows, Silence, Start,
    Toward, TransferManifest, TransferSet, Update, Version, Welcome,
};

const ID: RoundId = RoundId {
    round: 300,
    attempt: 2,
};

fn digest(byte: u8) -> Digest {
    Digest::from_bytes([byte; 32])
}

fn plan() -> RoundPlan {
    let adam = Optimiser::AdamW {
        learning_rate: 0.001,
        weight_decay: 0.01,
    };
    let sgd = Optimiser::Sgd {
        learning_rate: 0.5,
        momentum: 0.875,
    };
    let phase = |start, data, objective, optimiser| Phase {
        start,
        data,
        only: None,
        epochs: 3,
        batch: 50,
        objective,
        optimiser,
    };
    let knowledge = |kind, width, about| Knowledge {
        blob: digest(2),
        bytes: 40_012,
        kind,
        width,
        about,
        precision: Precision::F32,
        update: None,
    };
    let temperature = 4.0;
    let logits = [
        Loss::SoftCrossEntropy,
        Loss::Kl { temperature },
        Loss::ReverseKl { temperature },
        Loss::L1,
        Loss::Mse,
        Loss::Decoupled {
            temperature,
            target: 1.0,
            others: 8.0,
        },
        Loss::NotTrue { temperature },
    ];
    let features = [
        Loss::Features,
        Loss::Attention,
        Loss::Similarity,
        Loss::Relational {
            distance: 25.0,
            angle: 50.0,
        },
    ];
    let soft = logits
        .map(|loss| LossTerm::new(loss, Toward::Knowledge))
        .to_vec();
    let private = vec![
        LossTerm::new(Loss::CrossEntropy { smoothing: 0.125 }, Toward::Labels),
        LossTerm::new(Loss::HeldCrossEntropy { adjust: 1.0 }, Toward::Labels).times(0.5),
        LossTerm {
            ramp: Ramp::Rise { epochs: 20 },
            ..LossTerm::new(Loss::Features, Toward::Classes)
        },
        LossTerm {
            ramp: Ramp::Fall { factor: 0.5 },
            ..LossTerm::new(Loss::NotTrue { temperature }, Toward::Before)
        },
    ];
    let hints = features.map(|loss| LossTerm::new(loss, Toward::Before));
    let rows = Rows::Range {
        start: 1000,
        count: 1000,
    };
    RoundPlan {
        federation: "wards".parse().unwrap(),
        id: ID,
        transfer: digest(1),
        seed: u64::MAX,
        knowledge: vec![
            Knowledge {
                update: Some(Update {
                    base: digest(6),
                    blob: digest(7),
                    bytes: 99,
                }),
                ..knowledge(AnswerKind::Logits, 2, About::Rows(rows))
            },
            Knowledge {
                bytes: 400,
                ..knowledge(AnswerKind::Features, 50, About::Classes)
            },
        ],
        phases: vec![
            Phase {
                only: Some(Rows::List(vec![1001, 1003, 1004, 1009])),
                ..phase(Start::Reset, PhaseData::Transfer, soft, adam)
            },
            phase(Start::Continue, PhaseData::Private, private, sgd),
            phase(
                Start::Seeded(300),
                PhaseData::Transfer,
                hints.to_vec(),
                adam,
            ),
        ],
        report: Some(Report {
            kind: AnswerKind::Probabilities,
            about: About::Rows(Rows::List(vec![0, 5, 70_000])),
            width: 2,
            precision: Precision::U8,
            rounding: Rounding::Stochastic,
            adjust: 0.5,
            silence: Silence::Unlike {
                width: 5.0,
                quantile: 0.25,
            },
            update: true,
        }),
        deadline_ms: 60_000,
        cohort: 7,
    }
}

fn messages() -> Vec<Message> {
    let classes = || vec!["cat".to_owned(), "dog".to_owned()];
    let why = || "grüße".to_owned();
    vec![
        hello().into(),
        Message::from(Welcome {
            federation: "wards".parse().unwrap(),
            transfer: TransferManifest {
                blob: digest(3),
                bytes: 784_000,
                samples: 1000,
                shape: vec![1, 28, 28],
                classes: classes(),
            },
            heartbeat_ms: 20_000,
            epoch: 4_000,
            rolled_back: 9,
        }),
        plan().into(),
        Heartbeat { id: ID }.into(),
        contribution().into(),
        Refusal { id: ID, why: why() }.into(),
        Receipt {
            id: ID,
            blob: digest(4),
        }
        .into(),
        Rejected {
            reason: RejectReason::ProtocolViolation,
            detail: why(),
            after_ms: 70_000,
            id: Some(ID),
        }
        .into(),
        Goodbye {
            why: why(),
            back: true,
            after_ms: 200,
        }
        .into(),
    ]
}

fn hello() -> Hello {
    Hello {
        federation: "wards".parse().unwrap(),
        software: "fedistill 0.1.0".to_owned(),
        classes: vec!["cat".to_owned(), "dog".to_owned()],
        transfer: Some(digest(9)),
        epoch: 3,
        parameters: 50_890,
    }
}

fn contribution() -> Contribution {
    Contribution {
        id: ID,
        blob: digest(5),
        bytes: 10_332,
        update: Some(Update {
            base: digest(6),
            blob: digest(7),
            bytes: 99,
        }),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] * 16 + pair[1])
        .collect()
}

/// Lines of `name hex`, in the order of kinds.
const FRAMES: &str = include_str!("golden/frames.txt");
/// The same of version 3.
const FRAMES_3: &str = include_str!("golden/frames-3.txt");
const ANSWERS: &str = include_str!("golden/answers.txt");

fn lines(text: &'static str) -> Vec<(&'static str, Vec<u8>)> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(n, hex)| (n, unhex(hex)))
        .collect()
}

#[test]
fn frames_have_the_bytes_of_each_version() {
    for (version, golden) in Version::ALL.into_iter().zip([FRAMES, FRAMES_3]) {
        let golden = lines(golden);
        assert_eq!(golden.len(), messages().len());
        for (message, (name, bytes)) in messages().into_iter().zip(golden) {
            assert_eq!(message.kind().name(), name);
            let frame = frame::encode_in(version, &message).unwrap();
            assert_eq!(hex(&frame), hex(&bytes), "{name}, version {version}");
            let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>().unwrap();
            let header = Header::parse(*header).unwrap();
            assert_eq!(header.version(), version);
            let read = frame::decode(header, body).unwrap();
            assert_eq!(read, known_in(version, message.clone()));
            // One frame is enough for peers of all versions.
            let latest = frame::encode(&message).unwrap();
            assert_eq!(frame::translate(version, &latest).unwrap(), bytes);
        }
    }
}

/// What is left of a message in this version.
fn known_in(version: Version, mut message: Message) -> Message {
    if version == Version::LATEST {
        return message;
    }
    match &mut message {
        Message::Hello(hello) => (hello.epoch, hello.parameters) = (0, 0),
        Message::Welcome(welcome) => (welcome.epoch, welcome.rolled_back) = (0, 0),
        Message::Rejected(rejected) => (rejected.after_ms, rejected.id) = (0, None),
        Message::Goodbye(goodbye) => goodbye.after_ms = 0,
        _ => {}
    }
    message
}

#[test]
fn what_version_3_has_no_number_for_is_said_with_another() {
    let rejected = Rejected::new(RejectReason::OldEpoch, "epoch 1".to_owned());
    let frame = frame::encode_in(Version::OLDEST, &rejected.into()).unwrap();
    let (header, body) = frame.split_first_chunk::<HEADER_BYTES>().unwrap();
    let read = frame::decode(Header::parse(*header).unwrap(), body).unwrap();
    let expected = Rejected::new(RejectReason::ProtocolViolation, "epoch 1".to_owned());
    assert_eq!(read, expected.into());
}

/// Added since: no number that was there before has changed.
#[test]
fn an_estimate_of_densities_has_the_bytes_of_version_4() {
    let density = Density {
        noise: 100,
        held_out: 0.25,
        lambda: 0.5,
        own: 1000,
    };
    let with = |density| {
        let mut plan = plan();
        // The golden one claims more than its rows may take.
        plan.knowledge[0].bytes = 400;
        plan.report.as_mut().unwrap().silence = Silence::UnlikeBy {
            width: 5.0,
            quantile: 0.25,
            density,
        };
        plan
    };
    let message = Message::from(with(density));
    let bytes = frame::encode(&message).unwrap();
    let silence = "050000a0400000803e640000803e0000003ffbe803";
    assert!(hex(&bytes).contains(silence), "{}", hex(&bytes));
    let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>().unwrap();
    let header = Header::parse(*header).unwrap();
    assert_eq!(frame::decode(header, body).unwrap(), message);
    with(density).check(digest(1), 80_000, 2).unwrap();
    for wrong in [
        Density {
            noise: 0,
            ..density
        },
        Density {
            noise: 2001,
            ..density
        },
        Density {
            held_out: 0.6,
            ..density
        },
        Density {
            lambda: -1.0,
            ..density
        },
        Density {
            lambda: f32::NAN,
            ..density
        },
        Density { own: 0, ..density },
        Density {
            own: 10_001,
            ..density
        },
    ] {
        let error = with(wrong).check(digest(1), 80_000, 2).unwrap_err();
        assert!(error.to_string().contains("out of range"), "{error}");
    }
}

#[test]
fn a_plan_that_keeps_no_value_of_a_row_is_refused() {
    let check = |plan: &RoundPlan| plan.check(digest(1), 80_000, 2);
    let mut fair = plan();
    // The golden one claims more than its rows may take.
    fair.knowledge[0].bytes = 400;
    check(&fair).unwrap();
    let (mut up, mut down) = (fair.clone(), fair);
    up.report.as_mut().unwrap().precision = Precision::Top(0);
    down.knowledge[0].precision = Precision::Top(0);
    for (plan, part) in [(up, "report"), (down, "knowledge")] {
        let error = check(&plan).unwrap_err().to_string();
        assert!(
            error.contains(part) && error.contains("keeps no value"),
            "{error}"
        );
    }
}

#[test]
fn transfer_sets_and_requests_have_the_bytes_of_format_1() {
    let pixels = TransferSet::new(vec![1, 1, 2], Elements::U8(vec![0, 7, 255, 9])).unwrap();
    let bytes = "0100030002000000010000000100000002000000 0007ff09";
    assert_eq!(hex(&pixels.pack()), hex(&unhex(bytes)));
    assert_eq!(TransferSet::unpack(&unhex(bytes)).unwrap(), pixels);
    let numbers = TransferSet::new(vec![2], Elements::F32(vec![1.0, -2.5])).unwrap();
    let bytes = "010101000100000002000000 0000803f000020c0";
    assert_eq!(hex(&numbers.pack()), hex(&unhex(bytes)));
    assert_eq!(TransferSet::unpack(&unhex(bytes)).unwrap(), numbers);
    let request = Request {
        blob: digest(8),
        offset: 65_536,
    };
    let bytes = format!("{}0000010000000000", "08".repeat(32));
    assert_eq!(hex(&request.to_bytes()), bytes);
    assert_eq!(Request::parse(request.to_bytes()), request);
}

#[test]
fn packed_answers_have_the_bytes_of_format_2() {
    let values = vec![0.0, -1.5, 2.25, 1e-3, 65_536.0, -0.0];
    let logits = Answers::new(AnswerKind::Logits, 3, values).unwrap();
    // Four rows that differ, again and again: enough for the adaptive coder.
    let rows = [
        [0.5, 0.25, 0.25],
        [0.0, 1.0, 0.0],
        [0.0; 3],
        [0.1, 0.2, 0.7],
    ];
    let rows = |count: usize| rows.into_iter().cycle().take(count).flatten().collect();
    let few = Answers::new(AnswerKind::Probabilities, 3, rows(40)).unwrap();
    let many = Answers::new(AnswerKind::Probabilities, 3, rows(12_000)).unwrap();
    let features = Answers::new(AnswerKind::Features, 3, rows(5)).unwrap();
    let voices = Answers::new(AnswerKind::Logits, 3, rows(40)).unwrap();
    let cases = [
        (&logits, Precision::F32),
        (&logits, Precision::F16),
        (&logits, Precision::U8),
        (&logits, Precision::U2),
        (&few, Precision::U8),
        (&few, Precision::U4),
        (&few, Precision::U2),
        (&few, Precision::U1),
        (&few, Precision::F16),
        (&features, Precision::U8),
        (&logits, Precision::Top(2)),
        (&few, Precision::Top(1)),
        (&logits, Precision::Peak),
        (&voices, Precision::Peak),
        (&features, Precision::U1),
        (&logits, Precision::U1),
    ];
    // Sixty classes, of which a row names one or two: what peers of version 4 know besides.
    let named = |kind| {
        let row = |at: usize| {
            let (first, second) = (at * 37 % 61 % 60, at * 23 % 59);
            let share = move |class| match class {
                _ if class == first => 0.75,
                _ if class == second => 0.25,
                _ => 0.0,
            };
            (0..60).map(share)
        };
        Answers::new(kind, 60, (0..40).flat_map(row).collect()).unwrap()
    };
    let shares = named(AnswerKind::Probabilities);
    let steep = named(AnswerKind::Logits);
    let later = [
        (&shares, Precision::U8, 3),
        (&shares, Precision::U4, 3),
        (&shares, Precision::U2, 3),
        (&shares, Precision::U1, 3),
        (&shares, Precision::Peak, 4),
        (&steep, Precision::Peak, 4),
        (&shares, Precision::F32, 5),
        (&shares, Precision::F16, 5),
        (&shares, Precision::Top(2), 5),
        (&steep, Precision::Top(2), 5),
    ];
    let golden = lines(ANSWERS);
    assert_eq!(golden.len(), cases.len() + 2 + later.len());
    for ((answers, precision), (name, bytes)) in cases.into_iter().zip(&golden) {
        assert_eq!(hex(&answers.pack(precision)), hex(bytes), "{name}");
        assert!(Answers::unpack(bytes, answers.kind(), answers.rows(), 3).is_ok());
    }
    for ((answers, precision, coding), (name, bytes)) in
        later.into_iter().zip(&golden[cases.len() + 1..])
    {
        let packed = answers.pack_for(Version::LATEST, precision);
        assert_eq!(hex(&packed), hex(bytes), "{name}");
        assert_eq!(packed[3], coding, "{name}");
        assert!(Answers::unpack(bytes, answers.kind(), 40, 60).is_ok());
    }
    // Too long to be here whole: numeral systems, of symbols and of planes.
    let planes = &golden[golden.len() - 1];
    for (precision, coding, (name, digest)) in [
        (Precision::U8, 2, &golden[cases.len()]),
        (Precision::F16, 5 | 16, planes),
    ] {
        let packed = many.pack_for(Version::LATEST, precision);
        assert_eq!(packed[3], coding, "{name}");
        assert_eq!(hex(Digest::of(&packed).as_bytes()), hex(digest), "{name}");
        assert!(Answers::unpack(&packed, AnswerKind::Probabilities, 12_000, 3).is_ok());
    }
}

/// What wincode sees: the same fields in the same order.
mod mirror {
    #[derive(Debug, PartialEq, wincode::SchemaRead, wincode::SchemaWrite)]
    pub(crate) struct Hello {
        pub(crate) federation: String,
        pub(crate) software: String,
        pub(crate) classes: Vec<String>,
        pub(crate) transfer: Option<[u8; 32]>,
        pub(crate) epoch: u64,
        pub(crate) parameters: u64,
    }

    #[derive(Debug, PartialEq, wincode::SchemaRead, wincode::SchemaWrite)]
    pub(crate) struct Contribution {
        pub(crate) round: u32,
        pub(crate) attempt: u32,
        pub(crate) blob: [u8; 32],
        pub(crate) bytes: u64,
        pub(crate) update: Option<Update>,
    }

    #[derive(Debug, PartialEq, wincode::SchemaRead, wincode::SchemaWrite)]
    pub(crate) struct Update {
        pub(crate) base: [u8; 32],
        pub(crate) blob: [u8; 32],
        pub(crate) bytes: u64,
    }
}

#[test]
fn another_crate_reads_and_writes_the_same_bytes() {
    let config = wincode::config::Configuration::default().with_varint_encoding();
    let body = |message: Message| frame::encode(&message).unwrap()[HEADER_BYTES..].to_vec();

    let expected = mirror::Hello {
        federation: "wards".to_owned(),
        software: hello().software,
        classes: hello().classes,
        transfer: Some([9; 32]),
        epoch: 3,
        parameters: 50_890,
    };
    let bytes = body(hello().into());
    let read: mirror::Hello = wincode::config::deserialize_exact(&bytes, config).unwrap();
    assert_eq!(read, expected);
    assert_eq!(
        wincode::config::serialize(&expected, config).unwrap(),
        bytes
    );

    let expected = mirror::Contribution {
        round: 300,
        attempt: 2,
        blob: [5; 32],
        bytes: 10_332,
        update: Some(mirror::Update {
            base: [6; 32],
            blob: [7; 32],
            bytes: 99,
        }),
    };
    let bytes = body(contribution().into());
    let read: mirror::Contribution = wincode::config::deserialize_exact(&bytes, config).unwrap();
    assert_eq!(read, expected);
    assert_eq!(
        wincode::config::serialize(&expected, config).unwrap(),
        bytes
    );
}
