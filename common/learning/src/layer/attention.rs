use super::{Backward, Forward, Layer, Linear, Padding, Tensor};
use crate::kernels::{
    self, Ending, Left, Right, product, product_within, softmax_gradient, softmax_in_place,
    transpose,
};

/// Self-attention with several heads (Vaswani et al. 2017) over samples of `length x width`: each
/// row becomes a mean of all rows' values, weighted by how well its query fits their keys.
///
/// Queries, keys, values and what comes out are linear, as in BERT.
pub(crate) struct Attention {
    length: usize,
    width: usize,
    heads: usize,
    padding: Option<Padding>,
    /// Query, key, value, out.
    linears: [Linear; 4],
    /// Queries, keys, values, and the heads' means, of the whole batch.
    rows: [Vec<f32>; 4],
    /// Weights of each sample, head and row.
    weights: Vec<f32>,
    /// A sample's keys or values, turned.
    turned: Vec<f32>,
    /// Gradients of `rows`, and of what comes in.
    gradients: [Vec<f32>; 4],
    scores: Vec<f32>,
    dx: Vec<f32>,
}

const NAMES: [&str; 4] = ["q", "k", "v", "out"];

/// Stands for minus infinity among scores: far below all of them, and a number still.
const HIDDEN: f32 = -1e30;

impl Attention {
    /// `heads` divides `width`.
    pub(crate) fn new(length: usize, width: usize, heads: usize) -> Self {
        assert!(heads > 0 && width.is_multiple_of(heads), "heads are uneven");
        Self {
            length,
            width,
            heads,
            padding: None,
            linears: std::array::from_fn(|_| Linear::new(width, width).over(length)),
            rows: Default::default(),
            weights: Vec::new(),
            turned: vec![0.0; length * width],
            gradients: Default::default(),
            scores: vec![0.0; length * length],
            dx: Vec::new(),
        }
    }

    /// Rows that `padding` notes get no weight, but in samples where all are noted.
    pub(crate) fn without(self, padding: Padding) -> Self {
        Self {
            padding: Some(padding),
            ..self
        }
    }

    /// Matrices start uniform within `bound`, biases at 0.
    pub(crate) fn spread(self, bound: f32) -> Self {
        Self {
            linears: self.linears.map(|linear| linear.spread(bound)),
            ..self
        }
    }

    /// Parameters of one linear.
    fn own(&self) -> usize {
        self.width * (self.width + 1)
    }

    /// Values of each head and row.
    fn narrow(&self) -> usize {
        self.width / self.heads
    }

    fn scale(&self) -> f32 {
        (self.narrow() as f32).sqrt().recip()
    }

    /// Writes weights and means from queries, keys and values.
    fn mix(&mut self, samples: usize) {
        let (length, width, narrow) = (self.length, self.width, self.narrow());
        let (size, square) = (length * width, length * length);
        let scale = self.scale();
        let [queries, keys, values, means] = &mut self.rows;
        means.resize(samples * size, 0.0);
        self.weights.resize(samples * self.heads * square, 0.0);
        let pairs = means.chunks_exact_mut(size);
        let pairs = pairs.zip(self.weights.chunks_exact_mut(self.heads * square));
        for (sample, (means, weights)) in pairs.enumerate() {
            let all = sample * size..(sample + 1) * size;
            let (queries, values) = (&queries[all.clone()], &values[all.clone()]);
            transpose(&mut self.turned, &keys[all], length, width);
            for (head, weights) in weights.chunks_exact_mut(square).enumerate() {
                let from = head * narrow;
                let left = Left::within(&queries[from..], length, narrow, width);
                let right = Right::Plain(&self.turned[from * length..(from + narrow) * length]);
                product(
                    weights,
                    kernels::Start::Zero,
                    left,
                    right,
                    length,
                    Ending::Plain,
                );
            }
            if let Some(padding) = &self.padding {
                padding.with(|noted| hide(weights, &noted[sample * length..(sample + 1) * length]));
            }
            softmax_in_place(weights, length, scale);
            for (head, weights) in weights.chunks_exact(square).enumerate() {
                let from = head * narrow;
                let left = Left::new(weights, length, length);
                within(&mut means[from..], left, &values[from..], width, narrow);
            }
        }
    }

    /// Writes the gradients of queries, keys and values from that of the means.
    fn unmix(&mut self, samples: usize) {
        let (length, width, narrow) = (self.length, self.width, self.narrow());
        let (size, square) = (length * width, length * length);
        let scale = self.scale();
        let [queries, keys, values, _] = &self.rows;
        let [dqueries, dkeys, dvalues, dmeans] = &mut self.gradients;
        for gradients in [&mut *dqueries, &mut *dkeys, &mut *dvalues] {
            gradients.resize(samples * size, 0.0);
        }
        let weights = self.weights.chunks_exact(self.heads * square);
        for (sample, weights) in weights.take(samples).enumerate() {
            let all = sample * size..(sample + 1) * size;
            let dmeans = &dmeans[all.clone()];
            transpose(&mut self.turned, &values[all.clone()], length, width);
            for (head, weights) in weights.chunks_exact(square).enumerate() {
                let from = head * narrow;
                let own = all.start + from..all.end;
                let scores = &mut self.scores[..];
                let left = Left::within(&dmeans[from..], length, narrow, width);
                let right = Right::Plain(&self.turned[from * length..(from + narrow) * length]);
                product(
                    scores,
                    kernels::Start::Zero,
                    left,
                    right,
                    length,
                    Ending::Plain,
                );
                softmax_gradient(scores, weights, length, scale);
                let turned = Left::transposed(weights, length, length);
                within(
                    &mut dvalues[own.clone()],
                    turned,
                    &dmeans[from..],
                    width,
                    narrow,
                );
                let left = Left::new(scores, length, length);
                within(
                    &mut dqueries[own.clone()],
                    left,
                    &keys[own.clone()],
                    width,
                    narrow,
                );
                let turned = Left::transposed(scores, length, length);
                within(
                    &mut dkeys[own.clone()],
                    turned,
                    &queries[own],
                    width,
                    narrow,
                );
            }
        }
    }
}

/// `out = a b` for a head's columns `b`, among rows of `width` values like those of `out`.
fn within(out: &mut [f32], a: Left<'_>, b: &[f32], width: usize, narrow: usize) {
    let right = Right::Within(b, width);
    product_within(
        out,
        width,
        kernels::Start::Zero,
        a,
        right,
        narrow,
        Ending::Plain,
    );
}

/// Hides the columns of a sample's scores that are noted.
fn hide(scores: &mut [f32], noted: &[bool]) {
    if !(noted.contains(&true) && noted.contains(&false)) {
        return;
    }
    for row in scores.chunks_exact_mut(noted.len()) {
        for (score, noted) in row.iter_mut().zip(noted) {
            *score = if *noted { HIDDEN } else { *score };
        }
    }
}

impl Layer for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn output(&self) -> usize {
        self.length * self.width
    }

    fn tensors(&self) -> Vec<Tensor> {
        let linears = NAMES.iter().zip(&self.linears);
        linears
            .flat_map(|(name, linear)| {
                linear.tensors().into_iter().map(move |tensor| Tensor {
                    name: format!("{name}.{}", tensor.name),
                    ..tensor
                })
            })
            .collect()
    }

    fn operations(&self) -> u64 {
        let linears = self.linears.iter().map(Layer::operations).sum::<u64>();
        linears + 4 * (self.length * self.length * self.width) as u64
    }

    fn held(&self) -> usize {
        let linears: usize = self.linears.iter().map(Layer::held).sum();
        9 * self.length * self.width + self.heads * self.length * self.length + linears
    }

    fn forward(&mut self, mut pass: Forward<'_>, y: &mut [f32]) {
        let (samples, own) = (pass.samples, self.own());
        let weights = pass.weights.chunks_exact(own);
        for (index, weights) in weights.enumerate() {
            if index == 3 {
                self.mix(samples);
            }
            let (x, y) = match index {
                3 => (&self.rows[3][..], &mut *y),
                _ => {
                    self.rows[index].resize(pass.x.len(), 0.0);
                    (pass.x, &mut self.rows[index][..])
                }
            };
            let below = Forward {
                weights,
                gathered: &mut [],
                x,
                samples,
                rng: pass.rng.as_deref_mut(),
            };
            self.linears[index].forward(below, y);
        }
    }

    fn backward(&mut self, pass: Backward<'_>, dw: &mut [f32], mut dx: Option<&mut [f32]>) {
        let Backward {
            weights,
            x,
            y,
            dy,
            samples,
        } = pass;
        let own = self.own();
        let (weights, of_out) = weights.split_at(3 * own);
        let (dw, dout) = dw.split_at_mut(3 * own);
        let [_, _, _, dmeans] = &mut self.gradients;
        dmeans.resize(x.len(), 0.0);
        let above = Backward {
            weights: of_out,
            x: &self.rows[3],
            y,
            dy,
            samples,
        };
        self.linears[3].backward(above, dout, Some(dmeans));
        self.unmix(samples);
        self.dx.resize(x.len(), 0.0);
        let parts = weights.chunks_exact(own).zip(dw.chunks_exact_mut(own));
        for (index, (weights, dw)) in parts.enumerate() {
            let below = Backward {
                weights,
                x,
                y: &self.rows[index],
                dy: &mut self.gradients[index],
                samples,
            };
            let linear = &mut self.linears[index];
            match dx.as_deref_mut() {
                None => linear.backward(below, dw, None),
                Some(dx) if index == 0 => linear.backward(below, dw, Some(dx)),
                Some(dx) => {
                    linear.backward(below, dw, Some(&mut self.dx));
                    kernels::add(dx, &self.dx);
                }
            }
        }
    }
}
