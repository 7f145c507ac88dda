//! How much a teacher is to be believed beside its clients: a log-linear pool of two, fitted on
//! labelled samples.

/// What clients and a teacher say of one labelled sample: logits, and the class.
pub(super) struct Witnessed<'a> {
    pub(super) clients: &'a [f32],
    pub(super) teacher: &'a [f32],
    pub(super) class: usize,
}

/// `softmax(clients * C + teacher * T)`, with both weights above 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pool {
    pub(super) clients: f64,
    pub(super) teacher: f64,
}

/// No weight goes below this: what would say nothing at all cannot be scaled.
const LEAST: f64 = 1e-4;
const MOST_STEPS: usize = 100;

impl Pool {
    /// The weights under which the labels are the most likely, drawn towards `prior` teachers a
    /// client mean: minimises `sum_i -log softmax(a C_i + b T_i)[y_i] + (b / prior - a)^2 / 2`.
    ///
    /// The sum is convex in both weights, so Newton's steps, cut short where they would not lead down
    /// or out of the range, end at the one minimum.
    pub(super) fn fit(all: &[Witnessed<'_>], prior: f64) -> Self {
        let mut at = [1.0, prior];
        let mut here = slope(all, prior, at);
        for _ in 0..MOST_STEPS {
            let Some(step) = here.step(at) else { break };
            let mut share = 1.0;
            let next = loop {
                let to = [0, 1].map(|i| (at[i] - share * step[i]).max(LEAST));
                let there = slope(all, prior, to);
                if there.value < here.value {
                    break Some((to, there));
                }
                share /= 2.0;
                if share < 1e-9 {
                    break None;
                }
            };
            let Some((to, there)) = next else { break };
            let settled = here.value - there.value < 1e-12 * (1.0 + here.value.abs());
            (at, here) = (to, there);
            if settled {
                break;
            }
        }
        Self {
            clients: at[0],
            teacher: at[1],
        }
    }

    /// How many times the clients' mean the teacher weighs.
    pub(super) fn ratio(self) -> f64 {
        self.teacher / self.clients
    }
}

/// The loss at a place, its gradient and its Hessian.
struct Slope {
    value: f64,
    gradient: [f64; 2],
    /// aa, ab, bb.
    hessian: [f64; 3],
}

impl Slope {
    /// Newton's step, along those weights that can move; `None` where none can.
    fn step(&self, at: [f64; 2]) -> Option<[f64; 2]> {
        let ([ga, gb], [aa, ab, bb]) = (self.gradient, self.hessian);
        let held = |weight: f64, gradient: f64| weight <= LEAST && gradient >= 0.0;
        match (held(at[0], ga), held(at[1], gb)) {
            (true, true) => None,
            (true, false) => Some([0.0, gb / bb]),
            (false, true) => Some([ga / aa, 0.0]),
            (false, false) => {
                // The prior keeps the determinant above 0 wherever the samples say anything at all.
                let ridge = 1e-9;
                let (aa, bb) = (aa + ridge, bb + ridge);
                let determinant = aa * bb - ab * ab;
                Some([
                    (bb * ga - ab * gb) / determinant,
                    (aa * gb - ab * ga) / determinant,
                ])
            }
        }
    }
}

fn slope(all: &[Witnessed<'_>], prior: f64, [a, b]: [f64; 2]) -> Slope {
    let gap = b / prior - a;
    let mut slope = Slope {
        value: gap * gap / 2.0,
        gradient: [-gap, gap / prior],
        hessian: [1.0, -1.0 / prior, 1.0 / (prior * prior)],
    };
    for one in all {
        let pairs = || one.clients.iter().zip(one.teacher);
        let pairs = || pairs().map(|(c, t)| (f64::from(*c), f64::from(*t)));
        let pooled = |(c, t): (f64, f64)| a * c + b * t;
        let most = pairs().map(pooled).fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = pairs().map(|pair| (pooled(pair) - most).exp()).sum();
        // Moments of both under the pool.
        let [mut c1, mut t1, mut cc, mut ct, mut tt] = [0.0; 5];
        for (c, t) in pairs() {
            let p = (pooled((c, t)) - most).exp() / sum;
            (c1, t1) = (c1 + p * c, t1 + p * t);
            (cc, ct, tt) = (cc + p * c * c, ct + p * c * t, tt + p * t * t);
        }
        if let Some((c, t)) = pairs().nth(one.class) {
            slope.value -= pooled((c, t)) - most - sum.ln();
            slope.gradient[0] += c1 - c;
            slope.gradient[1] += t1 - t;
            slope.hessian[0] += cc - c1 * c1;
            slope.hessian[1] += ct - c1 * t1;
            slope.hessian[2] += tt - t1 * t1;
        }
    }
    slope
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three classes; whoever is right says so by 2.
    fn said(class: usize) -> [f32; 3] {
        let mut row = [0.0; 3];
        row[class] = 2.0;
        row
    }

    /// What is said of 100 samples: clients are right in `clients` of every 10, the teacher in `teacher`.
    fn rows(clients: usize, teacher: usize) -> Vec<([f32; 3], [f32; 3], usize)> {
        let row = |i: usize| {
            let class = i % 3;
            let at = |right: usize, other: usize| match (i * 7) % 10 < right {
                true => said(class),
                false => said((class + other) % 3),
            };
            (at(clients, 1), at(teacher, 2), class)
        };
        (0..100).map(row).collect()
    }

    fn witnessed(rows: &[([f32; 3], [f32; 3], usize)]) -> Vec<Witnessed<'_>> {
        rows.iter()
            .map(|(clients, teacher, class)| Witnessed {
                clients,
                teacher,
                class: *class,
            })
            .collect()
    }

    fn fitted(clients: usize, teacher: usize) -> Pool {
        Pool::fit(&witnessed(&rows(clients, teacher)), 0.1)
    }

    #[test]
    fn whoever_is_right_more_often_weighs_more() {
        let ratios = [2, 4, 6, 8, 9].map(|teacher| fitted(6, teacher).ratio());
        assert!(ratios.is_sorted(), "{ratios:?}");
        let ratios = [2, 4, 6, 8, 9].map(|clients| fitted(clients, 6).ratio());
        assert!(ratios.is_sorted_by(|a, b| a >= b), "{ratios:?}");
    }

    #[test]
    fn without_samples_the_prior_holds() {
        let pool = Pool::fit(&[], 0.25);
        assert!((pool.ratio() - 0.25).abs() < 1e-9);
    }

    #[test]
    fn nobody_weighs_less_than_nothing() {
        // The teacher is always wrong.
        let pool = fitted(9, 0);
        assert!(pool.teacher >= LEAST && pool.clients >= LEAST);
        let pool = fitted(0, 9);
        assert!(pool.teacher >= LEAST && pool.clients >= LEAST);
    }

    #[test]
    fn the_slope_is_that_of_the_loss() {
        let (clients, teacher) = ([1.0, -0.5, 0.2], [0.3, 0.9, -1.0]);
        let all = [Witnessed {
            clients: &clients,
            teacher: &teacher,
            class: 1,
        }];
        let at = [0.7, 0.4];
        let here = slope(&all, 0.1, at);
        let h = 1e-5;
        for i in 0..2 {
            let beside = |by: f64| {
                let mut to = at;
                to[i] += by;
                slope(&all, 0.1, to)
            };
            let (more, less) = (beside(h), beside(-h));
            let rise = (more.value - less.value) / (2.0 * h);
            assert!((rise - here.gradient[i]).abs() < 1e-6);
            for j in 0..2 {
                let bend = (more.gradient[j] - less.gradient[j]) / (2.0 * h);
                assert!((bend - here.hessian[i + j]).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn a_fit_is_where_the_slope_is_flat() {
        let pool = fitted(7, 6);
        // Away from the bounds.
        assert!(pool.clients > 0.01 && pool.teacher > 0.01);
        let rows = rows(7, 6);
        let all = witnessed(&rows);
        let least = slope(&all, 0.1, [pool.clients, pool.teacher]).value;
        for (a, b) in [(1.01, 1.0), (0.99, 1.0), (1.0, 1.01), (1.0, 0.99)] {
            let beside = [pool.clients * a, pool.teacher * b];
            assert!(slope(&all, 0.1, beside).value > least);
        }
    }
}
