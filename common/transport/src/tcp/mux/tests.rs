mod any;

use std::task::Waker;

use super::super::frame::{Decoder, HEADER_BYTES, Kind, MOST_DATA, put, put_close};
use super::*;
use crate::limits::STREAM_WINDOW;

/// One side, and what takes apart what comes to it.
struct End {
    mux: Mux,
    decoder: Decoder,
}

impl End {
    fn new(side: Side) -> Self {
        Self {
            mux: Mux::new(side, Arc::default()),
            decoder: Decoder::default(),
        }
    }

    /// Hands all that is due to the other side, in pieces of so many bytes.
    fn say(&mut self, to: &mut Self, piece: usize) -> Result<usize, Broken> {
        let mut said = 0;
        loop {
            let mut out = Vec::new();
            self.mux.fill(&mut out);
            if out.is_empty() {
                return Ok(said);
            }
            assert!(out.len() < 17 * 1024);
            said += out.len();
            for bytes in out.chunks(piece) {
                to.decoder.take(bytes, &mut to.mux)?;
            }
        }
    }

    fn hear(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.decoder.take(bytes, &mut self.mux)
    }

    fn write(&mut self, stream: u32, bytes: &[u8]) -> Poll<IoResult<usize>> {
        let context = Context::from_waker(Waker::noop());
        self.mux.write(stream, bytes, &context)
    }

    /// As much as is there, up to `most`; none where it would have to wait.
    fn read(&mut self, stream: u32, most: usize) -> Option<Result<Vec<u8>, ErrorKind>> {
        let context = Context::from_waker(Waker::noop());
        let mut bytes = vec![0; most];
        let mut buffer = ReadBuf::new(&mut bytes);
        match self.mux.read(stream, &mut buffer, &context) {
            Poll::Pending => None,
            Poll::Ready(Ok(())) => Some(Ok(buffer.filled().to_vec())),
            Poll::Ready(Err(error)) => Some(Err(error.kind())),
        }
    }

    fn drop(&mut self, stream: u32) {
        self.mux.drop_writer(stream);
        self.mux.drop_reader(stream);
    }
}

fn ends() -> (End, End) {
    (End::new(Side::Client), End::new(Side::Coordinator))
}

fn frame(kind: Kind, stream: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, kind, stream, body);
    out
}

#[test]
fn what_is_written_is_read_however_it_is_cut() {
    for piece in [1, 7, 8, 9, 1000, usize::MAX] {
        let (mut near, mut far) = ends();
        let streams = [near.mux.open().unwrap(), near.mux.open().unwrap()];
        assert_eq!(streams, [1, 3]);
        let text: Vec<u8> = (0..50_000u32)
            .map(|i| (i.wrapping_mul(i) >> 5) as u8)
            .collect();
        for stream in streams {
            assert!(matches!(near.write(stream, &text), Poll::Ready(Ok(50_000))));
            near.mux.finish(stream);
        }
        near.say(&mut far, piece).unwrap();
        for stream in streams {
            assert_eq!(far.mux.accept(), Some(stream));
            let mut got = Vec::new();
            while got.len() < text.len() {
                got.extend(far.read(stream, 999).unwrap().unwrap());
            }
            assert_eq!(got, text);
            assert_eq!(far.read(stream, 9), Some(Ok(Vec::new())));
            // The other way is still open.
            assert!(matches!(far.write(stream, b"yes"), Poll::Ready(Ok(3))));
        }
        far.say(&mut near, piece).unwrap();
        assert_eq!(near.read(3, 9), Some(Ok(b"yes".to_vec())));
        assert_eq!(near.read(3, 9), None);
        assert!(far.mux.accept().is_none());
    }
}

#[test]
fn no_more_is_on_its_way_than_there_is_room_for() {
    let (mut near, mut far) = ends();
    // More than one connection's window in all.
    let streams: Vec<u32> = (0..6).map(|_| near.mux.open().unwrap()).collect();
    let pump = |near: &mut End, far: &mut End| {
        let mut said = 0;
        for _ in 0..100 {
            for stream in &streams {
                if let Poll::Ready(sent) = near.write(*stream, &[5; UNSENT]) {
                    sent.unwrap();
                }
            }
            said += near.say(far, usize::MAX).unwrap();
        }
        said
    };
    let all = pump(&mut near, &mut far);
    let window = CONNECTION_WINDOW as usize;
    assert!((window..window + window / 100).contains(&all), "{all}");
    let unread = |far: &End| {
        let flows = far.mux.streams.values();
        flows.map(|flow| flow.unread.len()).collect::<Vec<_>>()
    };
    assert_eq!(unread(&far).iter().sum::<usize>(), window);
    assert!(
        unread(&far)
            .iter()
            .all(|held| *held <= STREAM_WINDOW as usize)
    );
    // Who waits has said no more than a stream may hold unsent.
    assert!(
        near.mux
            .streams
            .values()
            .all(|flow| flow.unsent.len() <= UNSENT)
    );
    assert!(near.write(1, &[5]).is_pending());
    assert_eq!(pump(&mut near, &mut far), 0);

    // What is read comes again, and no more.
    let mut read = 0;
    while read < window {
        for stream in &streams {
            read += far
                .read(*stream, 50_000)
                .map_or(0, |got| got.unwrap().len());
        }
    }
    far.say(&mut near, usize::MAX).unwrap();
    let again = pump(&mut near, &mut far);
    assert!(
        (read..read + read / 50).contains(&again),
        "{again} for {read}"
    );

    // Nor does a stream that nobody reads hold up the others.
    for stream in &streams[1..] {
        far.mux.drop_reader(*stream);
    }
    far.say(&mut near, usize::MAX).unwrap();
    let mut got = 0;
    for _ in 0..100 {
        let _ = near.write(1, &[5; UNSENT]);
        near.say(&mut far, usize::MAX).unwrap();
        got += far.read(1, 1 << 20).map_or(0, |got| got.unwrap().len());
        far.say(&mut near, usize::MAX).unwrap();
    }
    assert!(got > 2 * window, "{got}");
}

#[test]
fn what_nobody_reads_yet_does_not_hold_up_what_somebody_does() {
    for left in [1, 1000, 200_000, STREAM_WINDOW as usize] {
        let (mut near, mut far) = ends();
        let streams: Vec<u32> = (0..5).map(|_| near.mux.open().unwrap()).collect();
        let (talk, unread) = streams.split_last().unwrap();
        // All but so much of the connection's window is taken.
        let mut much = CONNECTION_WINDOW as usize - left;
        while much > 0 {
            for stream in unread {
                if let Poll::Ready(sent) = near.write(*stream, &vec![5; much.min(UNSENT)]) {
                    much -= sent.unwrap();
                }
            }
            near.say(&mut far, usize::MAX).unwrap();
        }
        let mut got = 0;
        for _ in 0..2000 {
            let _ = near.write(*talk, &[6; 2000]);
            near.say(&mut far, usize::MAX).unwrap();
            got += far.read(*talk, 2000).map_or(0, |got| got.unwrap().len());
            far.say(&mut near, usize::MAX).unwrap();
        }
        let least = 2000 * left.min(2000);
        assert!(got >= least, "{got} with {left} left");
    }
}

#[test]
fn streams_that_are_over_make_room_for_others() {
    let (mut near, mut far) = ends();
    for round in 0..100 {
        let streams: Vec<u32> = (0..CLIENT_STREAMS)
            .map(|_| near.mux.open().unwrap())
            .collect();
        assert_eq!(near.mux.open(), None);
        near.say(&mut far, usize::MAX).unwrap();
        for stream in streams {
            assert_eq!(far.mux.accept(), Some(stream));
            // In any order, and with what was not read.
            let _ = near.write(stream, b"a question");
            if round % 2 == 0 {
                near.mux.finish(stream);
            }
            near.say(&mut far, usize::MAX).unwrap();
            let _ = far.write(stream, b"an answer");
            far.drop(stream);
            far.say(&mut near, usize::MAX).unwrap();
            near.drop(stream);
            near.say(&mut far, usize::MAX).unwrap();
            far.say(&mut near, usize::MAX).unwrap();
        }
        for end in [&near, &far] {
            assert!(end.mux.streams.is_empty());
            assert_eq!((end.mux.own.open, end.mux.peers.open), (0, 0));
        }
    }
    // Nothing that was thrown away is missing from the windows.
    let given = |end: &End| end.mux.window + end.mux.credit;
    assert_eq!(
        (given(&near), given(&far)),
        (CONNECTION_WINDOW, CONNECTION_WINDOW)
    );
}

#[test]
fn a_reader_that_is_gone_stops_the_writer() {
    let (mut near, mut far) = ends();
    let stream = near.mux.open().unwrap();
    let _ = near.write(stream, &[1; 100]);
    near.say(&mut far, usize::MAX).unwrap();
    far.mux.drop_reader(stream);
    far.say(&mut near, usize::MAX).unwrap();
    let Poll::Ready(Err(error)) = near.write(stream, &[1]) else {
        panic!("nobody reads it")
    };
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    near.say(&mut far, usize::MAX).unwrap();
    assert_eq!(far.mux.streams[&stream].hearing, Hearing::Broken);
    // What is broken off is no end.
    let (mut near, mut far) = ends();
    let stream = near.mux.open().unwrap();
    near.say(&mut far, usize::MAX).unwrap();
    far.hear(&frame(Kind::Reset, stream, &[])).unwrap();
    assert_eq!(far.read(stream, 9), Some(Err(ErrorKind::ConnectionReset)));
}

#[test]
fn who_breaks_a_rule_is_found_out_before_anything_is_held() {
    let open = |count: u32| (0..count).map(|i| frame(Kind::Open, 1 + 2 * i, &[]));
    let many = |parts: Vec<Vec<u8>>| parts.concat();
    let data = |stream: u32| frame(Kind::Data, stream, &[1; MOST_DATA]);
    let flood = |streams: u32, each: usize| {
        let streams = (0..streams).flat_map(|i| vec![data(1 + 2 * i); each]);
        many(open(CLIENT_STREAMS).chain(streams).collect())
    };
    let after = |second: Kind, first: Kind| {
        let body: &[u8] = if second == Kind::Data { &[1] } else { &[] };
        many(vec![
            frame(Kind::Open, 1, &[]),
            frame(first, 1, &[]),
            frame(second, 1, body),
        ])
    };
    let cases: [(&str, Vec<u8>); 14] = [
        ("unknown kind", vec![0; 8]),
        ("unknown kind", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("too long", vec![2, 0, 255, 255, 1, 0, 0, 0]),
        (
            "more open streams",
            many(open(CLIENT_STREAMS + 1).collect()),
        ),
        ("out of turn", frame(Kind::Open, 3, &[])),
        ("out of turn", frame(Kind::Open, 2, &[])),
        ("not open", data(1)),
        ("not open", frame(Kind::Window, 2, &[1, 0, 0, 0])),
        (
            "more data",
            flood(1, STREAM_WINDOW as usize / MOST_DATA + 1),
        ),
        ("more data", flood(5, STREAM_WINDOW as usize / MOST_DATA)),
        ("data after", after(Kind::Data, Kind::End)),
        ("two ends", after(Kind::Reset, Kind::End)),
        ("wider", frame(Kind::Window, 0, &[1, 0, 0, 0])),
        (
            "wider",
            many(vec![
                frame(Kind::Open, 1, &[]),
                frame(Kind::Window, 1, &u32::MAX.to_le_bytes()),
            ]),
        ),
    ];
    for (part, bytes) in cases {
        let mut far = End::new(Side::Coordinator);
        let Broken(why) = far.hear(&bytes).expect_err(part);
        assert!(why.contains(part), "{why} is not about {part}");
        let held = |flow: &Flow| flow.unread.capacity() + flow.unsent.capacity();
        let held: usize = far.mux.streams.values().map(held).sum();
        assert!(held <= 2 * CONNECTION_WINDOW as usize, "{held}");
        assert!(far.mux.streams.len() <= CLIENT_STREAMS as usize);
        far.mux.violated(Broken(why));
        let (code, told) = far.mux.closing().unwrap();
        assert!(
            code == CloseCode::Violation && told.contains(part),
            "{told}"
        );
    }
    // Just as much as there is room for is no fault.
    let mut far = End::new(Side::Coordinator);
    far.hear(&flood(4, STREAM_WINDOW as usize / MOST_DATA))
        .unwrap();
}

#[test]
fn streams_that_are_given_up_before_they_are_taken_stay_within_the_limit() {
    let mut far = End::new(Side::Coordinator);
    let give_up = |index: u32| {
        let kinds = [Kind::Open, Kind::End, Kind::Stop];
        kinds.map(|kind| frame(kind, 1 + 2 * index, &[])).concat()
    };
    for index in 0..CLIENT_STREAMS {
        far.hear(&give_up(index)).unwrap();
    }
    // They are not over before they have been taken.
    let mut out = Vec::new();
    far.mux.fill(&mut out);
    assert!(out.is_empty());
    assert!(far.hear(&give_up(CLIENT_STREAMS)).is_err());
    assert_eq!(far.mux.accept(), Some(1));
    far.mux.fill(&mut out);
    assert_eq!(out, frame(Kind::Reset, 1, &[]));
    assert_eq!(far.read(1, 9), Some(Ok(Vec::new())));
    far.drop(1);
    assert_eq!(far.mux.streams.len(), CLIENT_STREAMS as usize - 1);
}

#[test]
fn however_often_it_is_asked_the_same_is_due_once() {
    let mut far = End::new(Side::Coordinator);
    far.hear(&frame(Kind::Open, 1, &[])).unwrap();
    assert_eq!(far.mux.accept(), Some(1));
    for _ in 0..10_000 {
        far.hear(&frame(Kind::Alive, 0, &[])).unwrap();
        far.hear(&frame(Kind::Stop, 1, &[])).unwrap();
    }
    let mut out = Vec::new();
    far.mux.fill(&mut out);
    assert_eq!(out, frame(Kind::Reset, 1, &[]));
    // What comes for a stream that is over, and may have been sent before its end was heard of.
    far.hear(&frame(Kind::End, 1, &[])).unwrap();
    far.drop(1);
    assert!(far.mux.streams.is_empty());
    far.hear(&frame(Kind::Stop, 1, &[])).unwrap();
    far.hear(&frame(Kind::Window, 1, &[1, 0, 0, 0])).unwrap();
    assert!(far.hear(&frame(Kind::End, 1, &[])).is_err());
}

#[test]
fn a_close_ends_all_and_says_why() {
    let (mut near, mut far) = ends();
    let stream = near.mux.open().unwrap();
    let _ = near.write(stream, b"last words");
    near.say(&mut far, usize::MAX).unwrap();
    near.mux.close(CloseCode::Outdated, "another epoch");
    // The first word holds.
    near.mux.close(CloseCode::Done, "done");
    let (code, why) = near.mux.closing().unwrap();
    let mut out = Vec::new();
    put_close(&mut out, code, &why);
    assert!(out.len() > HEADER_BYTES);
    far.hear(&out).unwrap();
    let over = far.mux.over().unwrap().to_string();
    assert!(
        over.contains("another epoch") && over.contains("Outdated"),
        "{over}"
    );
    // What has come before can still be read.
    assert_eq!(far.read(stream, 99), Some(Ok(b"last words".to_vec())));
    assert_eq!(
        far.read(stream, 99),
        Some(Err(ErrorKind::ConnectionAborted))
    );
    assert!(matches!(far.write(stream, b"x"), Poll::Ready(Err(_))));
    assert!(far.mux.closing().is_none());
    assert_eq!(
        near.read(stream, 99),
        Some(Err(ErrorKind::ConnectionAborted))
    );
    let mut nothing = Vec::new();
    far.mux.fill(&mut nothing);
    assert!(nothing.is_empty());
}
