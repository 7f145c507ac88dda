//! Two ends that do anything in any order keep to the rules; and whatever a peer puts in between, nothing
//! grows beyond its bounds.

use super::*;

/// Numbers that look random (xorshift, Marsaglia 2003), the same on every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32 % most
    }
}

/// An end and the streams whose halves its tasks hold, writers and readers.
struct Busy {
    end: End,
    held: [Vec<u32>; 2],
}

impl Busy {
    fn new(side: Side) -> Self {
        let end = End::new(side);
        let held = [Vec::new(), Vec::new()];
        Self { end, held }
    }

    /// One thing that a task does.
    fn act(&mut self, dice: &mut Dice) {
        let Self { end, held } = self;
        let what = dice.below(10);
        if what < 2 {
            let stream = match what {
                0 => end.mux.open(),
                _ => end.mux.accept(),
            };
            for halves in held {
                halves.extend(stream);
            }
            return;
        }
        let halves = &mut held[what as usize % 2];
        if halves.is_empty() {
            return;
        }
        let index = dice.below(halves.len() as u32) as usize;
        match what {
            2 | 4 => {
                let _ = end.write(halves[index], &vec![7; dice.below(60_000) as usize]);
            }
            3 | 5 | 7 => {
                let _ = end.read(halves[index], 1 + dice.below(90_000) as usize);
            }
            6 => end.mux.finish(halves[index]),
            8 => end.mux.drop_writer(halves.swap_remove(index)),
            _ => end.mux.drop_reader(halves.swap_remove(index)),
        }
    }

    /// What is due, and what a peer that knows no rules adds to it.
    fn say(&mut self, dice: &mut Dice, wild: bool) -> Vec<u8> {
        let mut out = Vec::new();
        self.end.mux.fill(&mut out);
        if wild && dice.below(20) == 0 {
            let stream = dice.below(12);
            out.extend(match dice.below(8) {
                0 => frame(Kind::Open, stream, &[]),
                1 => frame(
                    Kind::Data,
                    stream,
                    &vec![1; 1 + dice.below(16_000) as usize],
                ),
                2 => frame(Kind::End, stream, &[]),
                3 => frame(Kind::Reset, stream, &[]),
                4 => frame(Kind::Stop, stream, &[]),
                5 => frame(Kind::Window, stream, &dice.below(3000).to_le_bytes()),
                6 => frame(Kind::Alive, 0, &[]),
                _ => (0..dice.below(20)).map(|_| dice.below(9) as u8).collect(),
            });
        }
        out
    }

    fn check(&self) {
        let Mux {
            streams,
            own,
            peers,
            ..
        } = &self.end.mux;
        assert!(own.open <= own.most && peers.open <= peers.most);
        let halves: usize = self.held.iter().map(Vec::len).sum();
        assert!(streams.len() <= (own.open + peers.open) as usize + halves);
        assert!(self.end.mux.waiting.len() <= peers.open as usize);
        let unread: usize = streams.values().map(|flow| flow.unread.len()).sum();
        // What is not here and not given back may be on its way.
        let room = self.end.mux.window + self.end.mux.credit;
        assert!(room as usize + unread <= CONNECTION_WINDOW as usize);
        for flow in streams.values() {
            assert!(flow.unread.len() <= STREAM_WINDOW as usize && flow.unsent.len() <= UNSENT);
        }
    }
}

#[test]
fn whatever_is_done_nothing_grows_beyond_its_bounds() {
    let (mut broken, mut crossed) = (0, 0);
    for seed in 1..=400_u64 {
        let wild = seed % 2 == 0;
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        let mut near = Busy::new(Side::Client);
        let mut far = Busy::new(Side::Coordinator);
        // Bytes that are on their way.
        let mut ways = [Vec::new(), Vec::new()];
        'run: for _ in 0..2000 {
            match dice.below(4) {
                0 => near.act(&mut dice),
                1 => far.act(&mut dice),
                2 => {
                    ways[0].extend(near.say(&mut dice, wild));
                    ways[1].extend(far.say(&mut dice, false));
                }
                _ => {
                    for (way, to) in ways.iter_mut().zip([&mut far, &mut near]) {
                        let count = (dice.below(20_000) as usize).min(way.len());
                        let come: Vec<u8> = way.drain(..count).collect();
                        crossed += come.len();
                        if let Err(Broken(why)) = to.end.hear(&come) {
                            assert!(wild, "{seed}: {why}");
                            broken += 1;
                            break 'run;
                        }
                    }
                }
            }
            near.check();
            far.check();
        }
    }
    assert!(broken > 100 && crossed > 10_000_000, "{broken}, {crossed}");
}

#[test]
fn once_all_is_dropped_nothing_is_left() {
    for seed in 1..=100_u64 {
        let mut dice = Dice(0x2545_F491_4F6C_DD1D_u64.wrapping_mul(seed));
        let mut ends = [Busy::new(Side::Client), Busy::new(Side::Coordinator)];
        let exchange = |[near, far]: &mut [Busy; 2]| loop {
            let said = near.end.say(&mut far.end, 5000).unwrap();
            if said + far.end.say(&mut near.end, 5000).unwrap() == 0 {
                return;
            }
        };
        for _ in 0..500 {
            let which = dice.below(2) as usize;
            ends[which].act(&mut dice);
            if dice.below(5) == 0 {
                exchange(&mut ends);
            }
        }
        for _ in 0..20 {
            for Busy { end, held } in &mut ends {
                while let Some(stream) = end.mux.accept() {
                    held.iter_mut().for_each(|halves| halves.push(stream));
                }
                let [writers, readers] = held;
                writers
                    .drain(..)
                    .for_each(|stream| end.mux.drop_writer(stream));
                readers
                    .drain(..)
                    .for_each(|stream| end.mux.drop_reader(stream));
            }
            exchange(&mut ends);
        }
        for Busy { end, .. } in &ends {
            let mux = &end.mux;
            assert!(mux.streams.is_empty() && mux.waiting.is_empty(), "{seed}");
            assert_eq!((mux.own.open, mux.peers.open), (0, 0));
            assert_eq!(mux.window + mux.credit, CONNECTION_WINDOW);
        }
    }
}
