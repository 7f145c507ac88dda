//! Whether what is read has one form alone: encodings with a change in them are refused, or such as would have been
//! written.
//!
//! That is so of all headers, requests and transfer sets; of symbols that the adaptive coder has coded; and of answers
//! where reading loses nothing (at 32 and 16 bits, and as parts of a whole), in the coding that the writer has chosen,
//! unless rows are left out. It is not so, and not meant to be, of
//! - the choice of a coding: side by side is always taken, as is either coder where it is shorter than that, so that a
//!   later version may choose otherwise; of numbers likewise which of their planes are coded;
//! - silence: rows of zeros may be there as they are, or left out;
//! - scales at eight bits and less, the ends of which no value need have, levels of peaks, what is said of all but the
//!   largest, and the frequencies of `ans`;
//! - messages: a number may take more bytes than it needs, a list of samples come in either form.
//!
//! Messages, and answers where reading loses nothing, come to the same meaning as they are written again, and stay as they
//! are from then on. So two blobs of different digests may hold the same answers.
#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use fedistill_protocol::blob::{CHUNK_HEADER_BYTES, ChunkHeader, REQUEST_BYTES, Request};
use fedistill_protocol::frame::{self, HEADER_BYTES, Header};
use fedistill_protocol::{
    AnswerKind, Answers, Contribution, Digest, Elements, Message, Precision, RoundId, TransferSet,
    Update, Version,
};
use proptest::prelude::*;

/// A change of some bytes.
#[derive(Clone, Copy, Debug)]
enum Change {
    To(u8),
    Bit(u8),
    Insert(u8),
    Remove,
    Cut,
}

fn changes() -> impl Strategy<Value = (prop::sample::Index, Change)> {
    let change = prop_oneof![
        any::<u8>().prop_map(Change::To),
        (0u8..8).prop_map(Change::Bit),
        any::<u8>().prop_map(Change::Insert),
        Just(Change::Remove),
        Just(Change::Cut),
    ];
    (any::<prop::sample::Index>(), change)
}

fn changed(mut bytes: Vec<u8>, (at, change): (prop::sample::Index, Change)) -> Vec<u8> {
    let at = at.index(bytes.len());
    match change {
        Change::To(byte) => bytes[at] = byte,
        Change::Bit(bit) => bytes[at] ^= 1 << bit,
        Change::Insert(byte) => bytes.insert(at, byte),
        Change::Remove => drop(bytes.remove(at)),
        Change::Cut => bytes.truncate(at),
    }
    bytes
}

/// Rows of small numbers, some of zeros; as probabilities where they are to be.
fn answers(kind: AnswerKind, classes: u32, raw: &[u8], silent: usize) -> Answers {
    let mut values = Vec::new();
    for (at, row) in raw.chunks_exact(classes as usize).enumerate() {
        let sum: f32 = row.iter().map(|value| f32::from(*value)).sum();
        let scale = match (at % silent, kind) {
            (0, _) => 0.0,
            (_, AnswerKind::Probabilities) => sum.max(1.0).recip(),
            _ => 0.25,
        };
        values.extend(row.iter().map(|value| f32::from(*value) * scale));
    }
    Answers::new(kind, classes, values).unwrap()
}

/// How many values bytes say that they hold.
fn said_values(bytes: &[u8]) -> u64 {
    let number = |at: usize| {
        let bytes = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)))
    };
    number(4) * number(8)
}

/// In the byte of the coding: by `ans`, as planes, and rows left out.
const SYSTEMS: u8 = 2;
const PLANES: u8 = 5;
const GAPS: u8 = 16;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn answers_that_lose_nothing_are_written_as_they_were_read(
        raw in prop::collection::vec(0u8..5, 0..120), classes in 1u32..6, silent in 1usize..9, which in 0usize..8,
        change in changes(),
    ) {
        use Precision::{F16, F32, U1, U2, U4, U8};
        let (kind, precision) = match which {
            0 => (AnswerKind::Logits, F32),
            1 => (AnswerKind::Logits, F16),
            2 => (AnswerKind::Probabilities, F32),
            3 => (AnswerKind::Probabilities, F16),
            at => (AnswerKind::Probabilities, [U8, U4, U2, U1][at - 4]),
        };
        let answers = answers(kind, classes, &raw, silent);
        // What only peers of the latest version know of numbers.
        let version = if which < 4 { Version::LATEST } else { Version::OLDEST };
        let bytes = answers.pack_for(version, precision);
        let precision_byte = bytes[2];
        let bytes = changed(bytes, change);
        // Other precisions lose something; more values than there were take long.
        let fits = bytes.get(2) == Some(&precision_byte) && said_values(&bytes) < 4096;
        let read = fits.then(|| Answers::read(&bytes).ok()).flatten();
        // Of the other kind this precision may lose something.
        let Some(read) = read.filter(|read| read.kind() == kind) else {
            return Ok(());
        };
        let pack = |answers: &Answers| answers.pack_for(version, precision);
        let again = pack(&read);
        let settled = Answers::read(&again);
        prop_assert_eq!(settled.as_ref().map(pack), Ok(again.clone()));
        prop_assert_eq!(settled, Ok(read));
        if again[3] == bytes[3] && again[3] != PLANES && again[3] & (SYSTEMS | GAPS) == 0 {
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    fn transfer_sets_are_written_as_they_were_read(
        values in prop::collection::vec(any::<u8>(), 1..40), shape in prop::sample::select(vec![
            vec![1], vec![2], vec![1, 3],
        ]),
        floats: bool, change in changes(),
    ) {
        let width: u32 = shape.iter().product();
        let whole = values.len() / width as usize * width as usize;
        prop_assume!(whole > 0);
        let values = &values[..whole];
        let elements = match floats {
            true => Elements::F32(values.iter().map(|value| f32::from(*value)).collect()),
            false => Elements::U8(values.to_vec()),
        };
        let bytes = changed(TransferSet::new(shape, elements).unwrap().pack(), change);
        if let Ok(set) = TransferSet::unpack(&bytes) {
            prop_assert_eq!(set.pack(), bytes);
        }
    }

    #[test]
    fn headers_and_requests_are_told_by_all_their_bytes(
        header: [u8; HEADER_BYTES], kind in 0u8..12, version in 0u8..6, chunk: [u8; CHUNK_HEADER_BYTES], short: bool,
        request in prop::collection::vec(any::<u8>(), REQUEST_BYTES),
    ) {
        let mut header = header;
        header[..2].copy_from_slice(&[version, kind]);
        header[4..].fill(0);
        if let Ok(read) = Header::parse(header) {
            let length = (read.length() as u32).to_le_bytes();
            let again = [&[read.version().number(), read.kind().number()][..], &length].concat();
            prop_assert_eq!(again, header);
        }
        let mut chunk = chunk;
        if short {
            chunk[10..].fill(0);
        }
        if let Ok(read) = ChunkHeader::parse(chunk) {
            let length = (read.length() as u32).to_le_bytes();
            prop_assert_eq!([&read.offset().to_le_bytes()[..], &length].concat(), chunk);
        }
        let request: [u8; REQUEST_BYTES] = request.try_into().unwrap();
        prop_assert_eq!(Request::parse(request).to_bytes(), request);
    }

    #[test]
    fn messages_stay_as_they_were_written_again(
        round: u32, bytes: u64, base in any::<Option<[u8; 32]>>(), change in changes(),
    ) {
        let update = base.map(|base| Update {
            base: Digest::from_bytes(base),
            blob: Digest::from_bytes([7; 32]),
            bytes: 300,
        });
        let id = RoundId { round, attempt: 1 };
        let message = Contribution { id, blob: Digest::from_bytes([5; 32]), bytes, update };
        let frame = frame::encode(&message.into()).unwrap();
        let body = changed(frame[HEADER_BYTES..].to_vec(), change);
        let length = (body.len() as u32).to_le_bytes();
        let Ok(header) = Header::parse([frame[0], frame[1], length[0], length[1], length[2], length[3]]) else {
            return Ok(());
        };
        if let Ok(read) = frame::decode(header, &body) {
            let again = frame::encode(&read).unwrap();
            // A number takes as few bytes as it can.
            prop_assert!(again.len() <= HEADER_BYTES + body.len());
            let (header, body) = again.split_first_chunk::<HEADER_BYTES>().unwrap();
            prop_assert_eq!(frame::decode(Header::parse(*header).unwrap(), body), Ok(read));
        }
    }
}

/// What is not told by its bytes, so that nobody relies on it.
#[test]
fn some_things_may_be_said_in_more_than_one_way() {
    // A round of 3 in three bytes instead of one.
    let heartbeat = |body: &[u8]| {
        let header = Header::parse([4, 4, body.len() as u8, 0, 0, 0]).unwrap();
        frame::decode(header, body).unwrap()
    };
    assert_eq!(heartbeat(&[3, 1]), heartbeat(&[251, 3, 0, 1]));
    assert!(matches!(heartbeat(&[3, 1]), Message::Heartbeat(_)));
    // Silence, left out and as it is.
    let mut bytes = vec![2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0];
    bytes.extend([0, 0, 0, 0, 0, 0, 0x80, 0x3f]);
    let read = Answers::read(&bytes).unwrap();
    assert_eq!(read.values(), [0.0, 1.0]);
    let again = read.pack(Precision::F32);
    assert_ne!(again, bytes);
    assert_eq!(Answers::read(&again), Ok(read));
    // Votes side by side where they would be shorter coded.
    let votes = Answers::new(AnswerKind::Probabilities, 2, [1.0, 0.0].repeat(400)).unwrap();
    let mut plain = vec![2, 1, 5, 0, 144, 1, 0, 0, 2, 0, 0, 0];
    plain.extend([0b0101_0101; 100]);
    assert_eq!(Answers::read(&plain), Ok(votes.clone()));
    assert!(votes.pack(Precision::U1).len() < plain.len());
}

#[test]
fn no_rows_may_have_any_number_of_classes() {
    let precisions = Precision::ALL.into_iter();
    for precision in precisions.chain([Precision::Top(3), Precision::Peak]) {
        for kind in [AnswerKind::Logits, AnswerKind::Probabilities] {
            let nothing = Answers::new(kind, u32::MAX, Vec::new()).unwrap();
            let bytes = nothing.pack(precision);
            assert!(bytes.len() <= 13, "{precision:?}");
            assert_eq!(Answers::read(&bytes), Ok(nothing));
        }
    }
}
