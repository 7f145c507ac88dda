//! Laws of the wire format: round trips, limits before allocation, and no panic on any bytes.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use fedistill_protocol::blob::{Assembler, CHUNK_BYTES, CHUNK_HEADER_BYTES, ChunkHeader, chunks};
use fedistill_protocol::frame::{self, HEADER_BYTES, Header};
use fedistill_protocol::{
    AnswerKind, Answers, Contribution, Digest, Elements, Hello, Kind, Message, Name, Precision,
    ProtocolError, RoundId, TransferSet, Version,
};
use proptest::prelude::*;

fn read(bytes: &[u8]) -> Result<Message, ProtocolError> {
    let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>().unwrap();
    frame::decode(Header::parse(*header)?, body)
}

const VERSION: u8 = Version::LATEST.number();

fn header(version: u8, kind: u8, length: u32) -> [u8; HEADER_BYTES] {
    let [a, b, c, d] = length.to_le_bytes();
    [version, kind, a, b, c, d]
}

#[test]
fn a_length_over_the_limit_is_refused_by_the_header_alone() {
    for kind in Kind::ALL {
        let limit = kind.limit() as u32;
        assert!(
            Header::parse(header(VERSION, kind.number(), limit)).is_ok(),
            "{kind:?}"
        );
        let over = Header::parse(header(VERSION, kind.number(), limit + 1));
        assert!(
            matches!(over, Err(ProtocolError::TooLong { .. })),
            "{kind:?}"
        );
    }
}

#[test]
fn other_versions_and_unknown_kinds_are_refused() {
    let other = Header::parse(header(VERSION + 1, 1, 0));
    assert_eq!(
        other,
        Err(ProtocolError::Version {
            actual: VERSION + 1,
            expected: Version::LATEST
        })
    );
    assert_eq!(
        Header::parse(header(VERSION, 200, 0)),
        Err(ProtocolError::UnknownKind(200))
    );
}

#[test]
fn a_body_that_claims_a_huge_vector_is_an_error() {
    // Federation "a", software "", then a class list of 2^60 entries.
    let mut body = vec![1, b'a', 0, 253];
    body.extend((1u64 << 60).to_le_bytes());
    let header = Header::parse(header(VERSION, Kind::Hello.number(), body.len() as u32)).unwrap();
    assert!(matches!(
        frame::decode(header, &body),
        Err(ProtocolError::Malformed { .. })
    ));
}

#[test]
fn a_bad_name_is_refused_off_the_wire_too() {
    for text in ["", "A", "../x", "-a", "a b", &"a".repeat(65)] {
        assert!(text.parse::<Name>().is_err(), "{text:?}");
    }
    let body = [2, b'.', b'/', 0, 0, 0];
    let header = Header::parse(header(VERSION, Kind::Hello.number(), body.len() as u32)).unwrap();
    let error = frame::decode(header, &body).unwrap_err().to_string();
    assert!(error.contains("./"), "{error}");
}

#[test]
fn answers_that_are_not_finite_are_refused_when_made_and_when_read() {
    let kind = AnswerKind::Logits;
    let bad = Answers::new(kind, 2, vec![0.0, 1.0, 2.0, f32::NAN]);
    assert_eq!(bad, Err(ProtocolError::NotFinite { row: 1, column: 1 }));
    let mut bytes = Answers::new(kind, 2, vec![1.0; 4])
        .unwrap()
        .pack(Precision::F32);
    bytes[Answers::HEADER_BYTES..][4..8].copy_from_slice(&f32::INFINITY.to_le_bytes());
    let read = Answers::unpack(&bytes, kind, 2, 2);
    assert_eq!(read, Err(ProtocolError::NotFinite { row: 0, column: 1 }));
}

#[test]
fn answers_of_another_shape_kind_or_length_are_refused() {
    let kind = AnswerKind::Logits;
    let bytes = Answers::new(kind, 2, vec![1.0; 4])
        .unwrap()
        .pack(Precision::F16);
    let shape = Answers::unpack(&bytes, kind, 3, 2);
    assert!(matches!(shape, Err(ProtocolError::WrongShape { .. })));
    let other = Answers::unpack(&bytes, AnswerKind::Probabilities, 2, 2);
    assert!(matches!(other, Err(ProtocolError::WrongKind { .. })));
    let short = Answers::unpack(&bytes[..bytes.len() - 1], kind, 2, 2);
    assert!(matches!(short, Err(ProtocolError::WrongLength { .. })));
    let long = Answers::unpack(&[bytes, vec![0]].concat(), kind, 2, 2);
    assert!(matches!(long, Err(ProtocolError::WrongLength { .. })));
    // A few bytes that claim to be billions of values.
    let mut bomb = vec![2, 1, 5, 1];
    bomb.extend([0xff, 0xff, 0xff, 0, 0xff, 0xff, 0, 0]);
    let bomb = Answers::unpack(&bomb, AnswerKind::Probabilities, 0xff_ffff, 0xffff);
    assert!(matches!(bomb, Err(ProtocolError::TooLong { .. })));
    assert!(Answers::new(kind, 3, vec![0.0; 4]).is_err());
    assert!(Answers::new(kind, 0, vec![0.0; 4]).is_err());
}

#[test]
fn blobs_out_of_place_too_long_or_of_another_digest_are_refused() {
    let blob = vec![7; 10];
    let parse = |(header, bytes): ([u8; CHUNK_HEADER_BYTES], Vec<u8>)| {
        (ChunkHeader::parse(header).unwrap(), bytes)
    };
    let owned = |from| {
        chunks(&blob, from)
            .map(|(h, b)| parse((h, b.to_vec())))
            .next()
            .unwrap()
    };
    let too_long = Assembler::new(Digest::of(&blob), 11, 10).map(drop);
    assert!(matches!(too_long, Err(ProtocolError::TooLong { .. })));

    let mut assembler = Assembler::new(Digest::of(b"other"), 10, 10).unwrap();
    let (later, bytes) = owned(3);
    assert!(matches!(
        assembler.push(later, &bytes),
        Err(ProtocolError::WrongOffset { .. })
    ));
    let (first, bytes) = owned(0);
    assert!(matches!(
        assembler.push(first, &bytes[1..]),
        Err(ProtocolError::WrongLength { .. })
    ));
    assembler.push(first, &bytes).unwrap();
    assert!(matches!(
        assembler.finish(),
        Err(ProtocolError::DigestMismatch { .. })
    ));

    let mut short = Assembler::new(Digest::of(&blob), 9, 10).unwrap();
    assert!(matches!(
        short.push(first, &bytes),
        Err(ProtocolError::TooLong { .. })
    ));
    let length = (CHUNK_BYTES as u32 + 1).to_le_bytes();
    let mut header = [0; CHUNK_HEADER_BYTES];
    assert!(ChunkHeader::parse(header).is_err(), "an empty chunk");
    header[8..].copy_from_slice(&length);
    assert!(
        ChunkHeader::parse(header).is_err(),
        "a chunk over the limit"
    );
}

prop_compose! {
    fn hello()(name in "[a-z0-9][a-z0-9._-]{0,63}", software in ".{0,40}",
        classes in prop::collection::vec(".{0,12}", 0..20), held in any::<Option<[u8; 32]>>(),
        epoch in any::<u64>(), parameters in any::<u64>(),
    ) -> Hello {
        let transfer = held.map(Digest::from_bytes);
        Hello { federation: name.parse().unwrap(), software, classes, transfer, epoch, parameters }
    }
}

prop_compose! {
    fn contribution()(round in any::<u32>(), attempt in any::<u32>(), blob in any::<[u8; 32]>(),
        bytes in any::<u64>(),
    ) -> Contribution {
        Contribution { id: RoundId { round, attempt }, blob: Digest::from_bytes(blob), bytes, update: None }
    }
}

proptest! {
    #[test]
    fn messages_come_back_as_they_went(
        message in prop_oneof![hello().prop_map(Message::from), contribution().prop_map(Message::from)],
    ) {
        let mut bytes = frame::encode(&message).unwrap();
        prop_assert_eq!(read(&bytes).unwrap(), message.clone());
        // One byte more, properly announced, is refused.
        bytes.push(0);
        let length = (bytes.len() - HEADER_BYTES) as u32;
        bytes[2..HEADER_BYTES].copy_from_slice(&length.to_le_bytes());
        prop_assert_eq!(read(&bytes), Err(ProtocolError::TrailingBytes {
            what: message.kind().name(), count: 1,
        }));
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(kind in 0u8..16, body in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut bytes = header(VERSION, kind, body.len() as u32).to_vec();
        bytes.extend(&body);
        let _ = read(&bytes);
        let _ = Answers::unpack(&body, AnswerKind::Logits, 2, 3);
        if let Some(header) = body.first_chunk() {
            let _ = ChunkHeader::parse(*header);
        }
    }

    #[test]
    fn answers_come_back_within_their_precision(
        values in prop::collection::vec(-50.0f32..50.0, 1..700), classes in 1u32..8,
    ) {
        let rows = values.len() as u32 / classes;
        let kind = AnswerKind::Logits;
        let answers = Answers::new(kind, classes, values[..(rows * classes) as usize].to_vec()).unwrap();
        for precision in Precision::ALL {
            let bytes = answers.pack(precision);
            let most = Answers::most_bytes(kind, rows, classes, precision);
            prop_assert!(bytes.len() as u64 <= most);
            let back = Answers::unpack(&bytes, kind, rows, classes).unwrap();
            for (block, back) in
                answers.values().chunks(Answers::BLOCK).zip(back.values().chunks(Answers::BLOCK))
            {
                let span = block.iter().copied().fold(f32::NEG_INFINITY, f32::max)
                    - block.iter().copied().fold(f32::INFINITY, f32::min);
                for (value, back) in block.iter().zip(back) {
                    let allowed = match precision {
                        Precision::F32 => 0.0,
                        Precision::F16 => value.abs() / 2048.0 + 1e-7,
                        Precision::U8 => span / 510.0 + 1e-5,
                        Precision::U4 => span / 30.0 + 1e-5,
                        Precision::U2 => span / 6.0 + 1e-5,
                        Precision::U1 => span / 2.0 + 1e-5,
                        Precision::Top(_) | Precision::Peak => span,
                    };
                    prop_assert!((value - back).abs() <= allowed, "{precision:?} {value} {back}");
                }
            }
        }
    }

    #[test]
    fn planes_hold_what_is_said_without_them(
        raw in prop::collection::vec(-9i8..9, 1..900), classes in 1u32..30, fine: bool, silent in 1usize..9,
        which in 0usize..3,
    ) {
        let kind = [AnswerKind::Logits, AnswerKind::Probabilities, AnswerKind::Features][which];
        let mut values = Vec::new();
        for (at, row) in raw.chunks_exact(classes as usize).enumerate() {
            let row = row.iter().map(|raw| f32::from(*raw) / if fine { 7.0 } else { 4.0 });
            values.extend(row.map(|value| match (at % silent, kind) {
                (0, _) => 0.0,
                (_, AnswerKind::Probabilities) => value.exp() / 200.0,
                _ => value,
            }));
        }
        let answers = Answers::new(kind, classes, values).unwrap();
        let rows = answers.rows();
        for precision in [Precision::F32, Precision::F16, Precision::Top(1), Precision::Top(3)] {
            let (latest, oldest) = (answers.pack_for(Version::LATEST, precision), answers.pack(precision));
            prop_assert!(latest.len() <= oldest.len());
            let back = Answers::unpack(&latest, kind, rows, classes).unwrap();
            prop_assert_eq!(Answers::unpack(&oldest, kind, rows, classes).unwrap(), back.clone());
            if precision == Precision::F32 {
                prop_assert_eq!(&back, &answers);
            }
            // Nothing is taken from more bytes or fewer.
            let more = [&latest[..], &[0]].concat();
            prop_assert!(Answers::unpack(&more, kind, rows, classes).is_err());
            prop_assert!(Answers::unpack(&latest[..latest.len() - 1], kind, rows, classes).is_err());
        }
    }

    #[test]
    fn silence_is_heard_and_costs_next_to_nothing(
        values in prop::collection::vec(1.0f32..50.0, 1..700), every in 1usize..9, which in 0usize..3,
    ) {
        let kind = [AnswerKind::Logits, AnswerKind::Probabilities, AnswerKind::Features][which];
        let rows = (values.len() / 3) as u32;
        let mut values = values[..rows as usize * 3].to_vec();
        for row in values.chunks_exact_mut(3).step_by(every) {
            row.fill(0.0);
        }
        let answers = Answers::new(kind, 3, values).unwrap();
        let silent = answers.speaks().filter(|speaks| !speaks).count() as u32;
        for precision in Precision::ALL.into_iter().chain([Precision::Top(2), Precision::Peak]) {
            let bytes = answers.pack(precision);
            prop_assert!(bytes.len() as u64 <= Answers::most_bytes(kind, rows, 3, precision));
            // Never longer than the values themselves.
            let spoken = Answers::most_bytes(kind, rows - silent, 3, precision);
            prop_assert!(bytes.len() as u64 <= spoken + u64::from(rows) / 8 + 5);
            let back = Answers::unpack(&bytes, kind, rows, 3).unwrap();
            prop_assert!(back.speaks().eq(answers.speaks()), "{precision:?}");
        }
    }

    #[test]
    fn probabilities_come_back_as_the_closest_parts(
        values in prop::collection::vec(0.0f32..1.0, 1..900), classes in 2u32..9, silent in 1usize..9,
    ) {
        let kind = AnswerKind::Probabilities;
        let rows: Vec<f32> = values
            .chunks_exact(classes as usize)
            .enumerate()
            .flat_map(|(at, row)| {
                let sum: f32 = row.iter().sum::<f32>() + 1e-6;
                let sum = if at % silent == 0 { f32::INFINITY } else { sum };
                row.iter().map(move |value| value / sum)
            })
            .collect();
        let answers = Answers::new(kind, classes, rows).unwrap();
        for precision in [Precision::U8, Precision::U4, Precision::U2, Precision::U1] {
            let bytes = answers.pack(precision);
            let most = Answers::most_bytes(kind, answers.rows(), classes, precision);
            prop_assert!(bytes.len() as u64 <= most);
            let back = Answers::unpack(&bytes, kind, answers.rows(), classes).unwrap();
            let rows = answers.values().chunks(classes as usize);
            for (row, back) in rows.zip(back.values().chunks(classes as usize)) {
                let (sum, kept): (f32, f32) = (row.iter().sum(), back.iter().sum());
                prop_assert_eq!(kept > 0.5, sum > 0.0);
                // The largest stays the largest, or as large as it.
                let largest = |row: &[f32]| row.iter().copied().fold(0.0, f32::max);
                let at = row.iter().position(|value| *value == largest(row)).unwrap();
                prop_assert_eq!(back[at], largest(back));
            }
            // What has been quantised stays as it is.
            prop_assert_eq!(&back.pack(precision), &bytes);
        }
    }

    #[test]
    fn damaged_answers_are_an_error_or_answers(
        votes in prop::collection::vec(0u32..5, 1..300), at: prop::sample::Index, to: u8, cut: bool,
    ) {
        let one_hot = votes.iter().flat_map(|vote| (0..5).map(move |c| f32::from(u8::from(c == *vote))));
        let kind = AnswerKind::Probabilities;
        let answers = Answers::new(kind, 5, one_hot.collect()).unwrap();
        let precisions = [Precision::U8, Precision::U1, Precision::Peak];
        let numbers = [Precision::F32, Precision::F16, Precision::Top(2)];
        for precision in precisions.into_iter().chain(numbers) {
            let mut bytes = answers.pack_for(Version::LATEST, precision);
            let at = at.index(bytes.len());
            bytes[at] = to;
            if cut {
                bytes.truncate(at);
            }
            let _ = Answers::unpack(&bytes, kind, votes.len() as u32, 5);
        }
    }

    #[test]
    fn a_blob_comes_together_from_any_break(length in 0usize..200_000, cut in 0usize..4) {
        let blob: Vec<u8> = (0..length).map(|at| (at * 31 % 251) as u8).collect();
        let mut assembler = Assembler::new(Digest::of(&blob), length as u64, length as u64).unwrap();
        for (header, bytes) in chunks(&blob, 0).take(cut) {
            assembler.push(ChunkHeader::parse(header).unwrap(), bytes).unwrap();
        }
        // The connection breaks; the next one asks for the rest.
        for (header, bytes) in chunks(&blob, assembler.offset() as usize) {
            assembler.push(ChunkHeader::parse(header).unwrap(), bytes).unwrap();
        }
        prop_assert_eq!(assembler.finish().unwrap(), blob);
    }

    #[test]
    fn transfer_sets_come_back_and_strangers_do_not_panic(
        rows in 1usize..20, pixels: bool, cut in 0usize..400, noise in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        let elements = match pixels {
            true => Elements::U8((0..rows * 6).map(|i| i as u8).collect()),
            false => Elements::F32((0..rows * 6).map(|i| i as f32).collect()),
        };
        let set = TransferSet::new(vec![2, 3], elements).unwrap();
        let bytes = set.pack();
        prop_assert_eq!(&TransferSet::unpack(&bytes).unwrap(), &set);
        prop_assert!(cut >= bytes.len() || TransferSet::unpack(&bytes[..cut]).is_err());
        let _ = TransferSet::unpack(&noise);
    }
}
