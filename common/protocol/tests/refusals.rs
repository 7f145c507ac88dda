//! Packed answers that nobody would have written, byte by byte: each is one thing away from what is taken.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use fedistill_protocol::entropy::{Encoder, Symbols};
use fedistill_protocol::{AnswerKind, Answers, ProtocolError, ans};

const LOGITS: u8 = 0;
const PROBABILITIES: u8 = 1;

/// Numbers of precisions.
const F32: u8 = 0;
const U8: u8 = 2;
const U4: u8 = 3;
const U1: u8 = 5;
const TOP: u8 = 6;

/// Numbers of codings.
const PLAIN: u8 = 0;
const ADAPTIVE: u8 = 1;
const SYSTEMS: u8 = 2;
const GAPS: u8 = 16;

/// Answers with this header and body.
fn packed(
    [kind, precision, coding]: [u8; 3],
    [rows, classes]: [u32; 2],
    body: &[u8],
) -> Result<Answers, ProtocolError> {
    let mut bytes = vec![2, kind, precision, coding];
    bytes.extend(rows.to_le_bytes());
    bytes.extend(classes.to_le_bytes());
    bytes.extend(body);
    Answers::read(&bytes)
}

fn refused(answers: Result<Answers, ProtocolError>, why: &str) {
    let error = answers.unwrap_err().to_string();
    assert!(error.contains(why), "{error}, expected {why}");
}

#[test]
fn parts_of_a_row_add_up_to_the_whole_or_to_nothing() {
    // Two classes of 4 bits each, the first in the lower ones: 15 parts in all.
    let row = |parts: u8| packed([PROBABILITIES, U4, PLAIN], [1, 2], &[parts]);
    for (parts, values) in [
        (0x0f, [1.0, 0.0]),
        (0xf0, [0.0, 1.0]),
        (0x69, [0.6, 0.4]),
        (0x00, [0.0, 0.0]),
    ] {
        assert_eq!(row(parts).unwrap().values(), values);
    }
    for parts in [0x0e, 0x77, 0x01, 0x1f, 0xff] {
        refused(row(parts), "parts of a row do not add up");
    }
    // One bit a class: two votes are one too many.
    let vote = |bits: u8| packed([PROBABILITIES, U1, PLAIN], [1, 3], &[bits]);
    assert_eq!(vote(0b100).unwrap().values(), [0.0, 0.0, 1.0]);
    refused(vote(0b110), "do not add up");
    refused(vote(0b1100), "bits are left over");
}

#[test]
fn what_is_coded_is_shorter_than_what_is_not() {
    // Bytes with nothing to learn from, and then ever more of them that come again: as they are coded they go from longer
    // than plain ones, over as long, to shorter.
    let mut state = 7u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let noise: Vec<u8> = (0..64).map(|_| random()).collect();
    let scales = [0.0f32, 255.0].map(f32::to_le_bytes).concat();
    let (mut longer, mut equal, mut shorter) = (0, 0, 0);
    for again in 0..64 {
        let symbols = [noise.clone(), vec![noise[0]; again]].concat();
        let (mut encoder, mut model) = (Encoder::default(), Symbols::new(256));
        let write = |symbol: &u8| model.write(&mut encoder, (*symbol).into());
        symbols.iter().for_each(write);
        let coded = encoder.finish();
        let read = |coding, body: &[u8]| {
            let shape = [symbols.len() as u32, 1];
            packed([LOGITS, U8, coding], shape, &[&scales, body].concat())
        };
        let plain = read(PLAIN, &symbols).unwrap();
        match coded.len().cmp(&symbols.len()) {
            std::cmp::Ordering::Less => {
                shorter += 1;
                assert_eq!(read(ADAPTIVE, &coded).unwrap(), plain);
                continue;
            }
            std::cmp::Ordering::Equal => equal += 1,
            std::cmp::Ordering::Greater => longer += 1,
        }
        refused(read(ADAPTIVE, &coded), "exceeds its limit");
    }
    assert!(longer > 0 && equal > 0 && shorter > 0);
}

#[test]
fn where_rows_are_left_out_there_is_one() {
    let rows = [[1.0f32, 2.0], [3.0, 4.0]];
    let body = |flags: u8, rows: &[[f32; 2]]| {
        let values = rows.iter().flatten().flat_map(|value| value.to_le_bytes());
        [1, 0, 0, 0, flags].into_iter().chain(values).collect()
    };
    let read = |flags, rows: &[[f32; 2]]| {
        let body: Vec<u8> = body(flags, rows);
        packed([LOGITS, F32, PLAIN | GAPS], [2, 2], &body)
    };
    let second = read(0b10, &rows[1..]).unwrap();
    assert_eq!(second.values(), [0.0, 0.0, 3.0, 4.0]);
    refused(read(0b11, &rows), "it leaves out no row");
    // Of parts none is left out: a row of none says that it is silent.
    let votes = [1, 0, 0, 0, 0b01, 0b10];
    refused(
        packed([PROBABILITIES, U1, PLAIN | GAPS], [2, 2], &votes),
        "it leaves out no row",
    );
}

#[test]
fn a_symbol_is_within_its_bits() {
    // The coder of bytes, where 4 bits are meant.
    let read = |symbol: u8| {
        let scales = [0.0f32, 15.0].map(f32::to_le_bytes).concat();
        let body = [scales, ans::encode(&[symbol; 200])].concat();
        packed([LOGITS, U4, SYSTEMS], [200, 1], &body)
    };
    assert_eq!(read(15).unwrap().values(), [15.0; 200]);
    refused(read(16), "beyond its bits");
    refused(read(255), "beyond its bits");
}

#[test]
fn the_largest_are_told_once_and_in_order() {
    // Of nine classes two: a number of 4 bits each, then their values, a half and a quarter.
    let read = |first: u8, second: u8| {
        let places = first | second << 4;
        packed(
            [PROBABILITIES, TOP, PLAIN],
            [1, 9],
            &[2, places, 0, 0x38, 0, 0x34],
        )
    };
    let row = read(3, 8).unwrap();
    assert_eq!((row.values()[3], row.values()[8]), (0.5, 0.25));
    assert!((row.values()[0] - 0.25 / 7.0).abs() < 1e-6);
    for (first, second) in [(3, 3), (8, 3), (3, 9), (9, 10)] {
        refused(
            read(first, second),
            "repeated, unsorted, too many or unknown",
        );
    }
}

#[test]
fn a_header_alone_says_what_may_follow() {
    assert_eq!(
        packed([LOGITS, F32, PLAIN], [0, 3], &[]).unwrap(),
        Answers::new(AnswerKind::Logits, 3, Vec::new()).unwrap()
    );
    refused(packed([LOGITS, F32, PLAIN], [0, 3], &[0]), "expected 12");
    refused(
        packed([LOGITS, F32, ADAPTIVE], [0, 3], &[]),
        "unknown coding",
    );
    refused(packed([LOGITS, U8, 3], [0, 3], &[]), "unknown coding");
    refused(packed([3, F32, PLAIN], [0, 3], &[]), "unknown kind");
}
