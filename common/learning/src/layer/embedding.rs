use super::{Backward, Forward, Layer, Padding, Start, Tensor};
use crate::kernels;

/// Rows of a table by the ids of tokens, which come as whole numbers in `f32`; on top of each, where
/// they are wished, a row for its place and the first of two rows for segments (Devlin et al. 2019).
///
/// What is no id of the table counts as 0, which is padding. Ids have no gradient: it is 0.
pub(crate) struct Embedding {
    vocabulary: usize,
    width: usize,
    length: usize,
    /// Rows for places; 0 where there are none, nor segments.
    positions: usize,
    bound: f32,
    padding: Option<Padding>,
}

/// Texts come as one segment or, as in BERT's own training, as two.
const SEGMENTS: usize = 2;

impl Embedding {
    /// Samples are `length` ids below `vocabulary`; parameters start uniform within `bound`.
    pub(crate) fn new(vocabulary: usize, width: usize, length: usize, bound: f32) -> Self {
        assert!(vocabulary > 0, "an id needs a row");
        Self {
            vocabulary,
            width,
            length,
            positions: 0,
            bound,
            padding: None,
        }
    }

    /// Adds rows for `positions` places, at least as many as a sample has ids, and for segments.
    pub(crate) fn with_positions(self, positions: usize) -> Self {
        assert!(positions >= self.length, "a place needs a row");
        Self { positions, ..self }
    }

    /// Notes in `padding` which ids are 0.
    pub(crate) fn noting(self, padding: Padding) -> Self {
        Self {
            padding: Some(padding),
            ..self
        }
    }

    fn row(&self, id: f32) -> std::ops::Range<usize> {
        // Below 0 and NaN become 0, what is too large the largest.
        let id = match id as usize {
            id if id < self.vocabulary => id,
            _ => 0,
        };
        id * self.width..(id + 1) * self.width
    }
}

impl Layer for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn output(&self) -> usize {
        self.length * self.width
    }

    fn tensors(&self) -> Vec<Tensor> {
        let tensor = |name, rows| {
            let shape = vec![rows, self.width];
            Tensor::plain(name, shape, Start::Uniform(self.bound))
        };
        let mut tensors = vec![tensor("words", self.vocabulary)];
        if self.positions > 0 {
            tensors.push(tensor("positions", self.positions));
            tensors.push(tensor("segments", SEGMENTS));
        }
        tensors
    }

    fn forward(&mut self, pass: Forward<'_>, y: &mut [f32]) {
        if let Some(padding) = &self.padding {
            padding.note(pass.x, |id| self.row(id).start == 0);
        }
        let (words, rest) = pass.weights.split_at(self.vocabulary * self.width);
        let (positions, segments) = rest.split_at(self.positions * self.width);
        let tokens = y.chunks_exact_mut(self.width).zip(pass.x);
        for (at, (y, id)) in tokens.enumerate() {
            y.copy_from_slice(&words[self.row(*id)]);
            if self.positions > 0 {
                let place = at % self.length * self.width;
                kernels::add(y, &positions[place..place + self.width]);
                kernels::add(y, &segments[..self.width]);
            }
        }
    }

    fn backward(&mut self, pass: Backward<'_>, dw: &mut [f32], dx: Option<&mut [f32]>) {
        dw.fill(0.0);
        let (words, rest) = dw.split_at_mut(self.vocabulary * self.width);
        let (positions, segments) = rest.split_at_mut(self.positions * self.width);
        for (dy, id) in pass.dy.chunks_exact(self.width).zip(pass.x) {
            kernels::add(&mut words[self.row(*id)], dy);
        }
        if self.positions > 0 {
            kernels::add_rows(&mut positions[..self.length * self.width], pass.dy);
            kernels::add_rows(&mut segments[..self.width], pass.dy);
        }
        if let Some(dx) = dx {
            dx.fill(0.0);
        }
    }
}
