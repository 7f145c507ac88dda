//! Packed answers against the entropy of order zero of their symbols: rows from flat to very sure, of tails light and
//! heavy, few classes and many, at each precision.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use fedistill_protocol::{AnswerKind, Answers, Precision, Version};

const ALL_PRECISIONS: [Precision; 9] = [
    Precision::F32,
    Precision::F16,
    Precision::Top(1),
    Precision::Top(5),
    Precision::U8,
    Precision::U4,
    Precision::U2,
    Precision::U1,
    Precision::Peak,
];

/// How rows come about.
#[derive(Clone, Copy, Debug)]
struct Rows {
    /// How far one class is above the others, but in each fiftieth row.
    ahead: f32,
    /// How far values are apart.
    spread: f32,
    /// Whether some are far from all others: cubes of what is almost normal.
    heavy: bool,
    /// Whether some classes are ahead more often than others.
    skewed: bool,
}

const fn rows(ahead: f32, spread: f32) -> Rows {
    Rows {
        ahead,
        spread,
        heavy: false,
        skewed: false,
    }
}

const HEAVY: Rows = Rows {
    heavy: true,
    ..rows(3.0, 1.0)
};

/// From flat to very sure; the first ones are as far apart as any.
const ALL: [Rows; 10] = [
    HEAVY,
    rows(0.0, 2.0),
    rows(6.0, 1.0),
    rows(10.0, 1.0),
    rows(15.0, 1.0),
    rows(3.0, 1.0),
    rows(8.0, 1.0),
    rows(40.0, 1.0),
    rows(12.0, 0.3),
    Rows {
        heavy: true,
        ..rows(0.0, 2.0)
    },
];

impl Rows {
    /// So many of them.
    fn of(self, kind: AnswerKind, rows: u32, classes: u32) -> Answers {
        let mut state = 1u32;
        let mut uniform = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        let mut values = Vec::with_capacity((rows * classes) as usize);
        for at in 0..rows {
            let place = uniform();
            let place = if self.skewed { place.powi(3) } else { place };
            let class = values.len() + (place * classes as f32) as usize;
            for _ in 0..classes {
                let normal = (0..12).map(|_| uniform()).sum::<f32>() - 6.0;
                values.push(self.spread * if self.heavy { normal.powi(3) } else { normal });
            }
            values[class] += if at % 50 == 0 { 0.0 } else { self.ahead };
        }
        if kind == AnswerKind::Probabilities {
            values.chunks_exact_mut(classes as usize).for_each(softmax);
        }
        Answers::new(kind, classes, values).unwrap()
    }
}

fn softmax(row: &mut [f32]) {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|z| *z = (*z - most).exp());
    let sum: f32 = row.iter().sum();
    row.iter_mut().for_each(|z| *z /= sum);
}

/// Bytes at the empirical entropy of order zero of these symbols.
fn entropy_of(symbols: &[u32]) -> f64 {
    let most = symbols.iter().max().map_or(0, |most| *most as usize);
    let mut counts = vec![0u32; most + 1];
    symbols
        .iter()
        .for_each(|symbol| counts[*symbol as usize] += 1);
    let share = |count: u32| f64::from(count) / symbols.len() as f64;
    let bits = counts.into_iter().filter(|count| *count > 0);
    let bits = bits.map(|count| -f64::from(count) * share(count).log2());
    bits.sum::<f64>() / 8.0
}

/// The least that these symbols take.
fn least(answers: &Answers, precision: Precision) -> f64 {
    let symbols = answers.symbols(precision);
    let mut each: Vec<f64> = symbols.iter().map(|list| entropy_of(list)).collect();
    if precision == Precision::Peak && answers.rows() <= answers.classes() {
        // Which class is the largest was drawn evenly here, and takes the logarithm of their number of any coder. So few
        // rows have far fewer different ones, whose entropy is less than anyone can do with who does not know which.
        let even = f64::from(answers.rows()) * f64::from(answers.classes()).log2() / 8.0;
        each[0] = each[0].max(even);
    }
    each.iter().sum()
}

/// What has to be learnt beside that, where a thousand rows are far from enough for a twentieth: of the bytes of a single
/// number a row, and of numbers so sure that three bits are enough for one, so that most of their bytes come once or twice.
/// Half the logarithm of how many there are for each that comes at all (Krichevsky and Trofimov 1981).
fn learnt(answers: &Answers, precision: Precision, least: f64) -> f64 {
    let planes = answers.symbols(precision);
    let longest = planes.iter().map(Vec::len).max().unwrap_or_default();
    let is_rare = match precision {
        Precision::Top(1) => true,
        Precision::F16 | Precision::Top(_) => 8.0 * least < 3.0 * longest as f64,
        _ => false,
    };
    let planes = planes.iter().filter(|list| is_rare && list.len() < 1 << 14);
    let each = planes.map(|list| {
        let kinds = list.iter().collect::<BTreeSet<_>>().len();
        kinds as f64 * (list.len() as f64).log2() / 2.0
    });
    each.sum::<f64>() / 8.0
}

/// Bytes of scales, which are no symbols.
fn scales(answers: &Answers, precision: Precision) -> usize {
    match (answers.kind(), precision) {
        (_, Precision::Peak) => 8 * answers.rows().div_ceil(256) as usize,
        (AnswerKind::Probabilities, _)
        | (_, Precision::F32 | Precision::F16 | Precision::Top(_)) => 0,
        _ => 8 * answers.values().len().div_ceil(Answers::BLOCK),
    }
}

/// Holds each precision to the law: what is over it, and in which ways symbols were written.
fn held(kind: AnswerKind, rows: u32, classes: u32, some: &[Rows]) -> (Vec<String>, BTreeSet<u8>) {
    let (mut over, mut ways) = (Vec::new(), BTreeSet::new());
    for of in some {
        let answers = of.of(kind, rows, classes);
        for precision in ALL_PRECISIONS {
            if kind == AnswerKind::Features && precision == Precision::Peak {
                continue;
            }
            let packed = answers.pack_for(Version::LATEST, precision);
            ways.insert(packed[3]);
            let beside = Answers::HEADER_BYTES + scales(&answers, precision);
            let (bytes, least) = (packed.len() - beside, least(&answers, precision));
            let line = format!(
                "{kind:?} {rows} x {classes} {of:?} {precision:?}: {bytes} bytes, entropy {least:.0}"
            );
            // What peers of version 3 get instead.
            let before = match packed[3] {
                3 | 5 => answers.pack(precision).len() - beside,
                _ => bytes,
            };
            println!("{line}, version 3: {before}");
            assert!(bytes <= before, "{line}, version 3: {before}");
            if bytes as f64 > 1.05 * least + learnt(&answers, precision, least) + 8.0 {
                over.push(line);
            }
            let read = Answers::unpack(&packed, kind, rows, classes).unwrap();
            let again = read.pack_for(Version::LATEST, precision);
            match precision {
                // What the others are on average is below what is kept, once it was read.
                Precision::Top(_) => assert_eq!(Answers::read(&answers.pack(precision)), Ok(read)),
                _ => assert_eq!(again.len(), packed.len()),
            }
        }
    }
    (over, ways)
}

fn hold(kind: AnswerKind, ways: &[u8]) {
    let (mut over, mut taken) = (Vec::new(), BTreeSet::new());
    for (rows, classes, some) in [
        (1000, 10, &ALL[..]),
        (4000, 10, &ALL),
        (1000, 11, &ALL),
        (4000, 11, &ALL),
        (1000, 100, &ALL),
        (4000, 100, &ALL),
        (1000, 1000, &ALL[..5]),
        (4000, 1000, &ALL[..1]),
    ] {
        let (more, ways) = held(kind, rows, classes, some);
        over.extend(more);
        taken.extend(ways);
    }
    let skewed = ALL.map(|of| Rows { skewed: true, ..of });
    for (rows, classes) in [(1000, 10), (4000, 10), (4000, 100)] {
        over.extend(held(kind, rows, classes, &skewed).0);
    }
    assert!(over.is_empty(), "{}", over.join("\n"));
    assert!(ways.iter().all(|way| taken.contains(way)), "{taken:?}");
}

#[test]
fn logits_are_within_a_twentieth_of_the_entropy_of_their_symbols() {
    hold(AnswerKind::Logits, &[1, 2, 4, 5]);
}

#[test]
fn probabilities_are_within_a_twentieth_of_the_entropy_of_their_symbols() {
    hold(AnswerKind::Probabilities, &[1, 2, 3, 4, 5]);
}

#[test]
fn features_are_within_a_twentieth_of_the_entropy_of_their_symbols() {
    hold(AnswerKind::Features, &[1, 2, 5]);
}
