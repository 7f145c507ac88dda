use super::Layers;
use crate::layer::{
    Attention, Chain, Embedding, First, Gelu, LayerNorm, Linear, Padding, Residual, Tanh,
};

const VOCABULARY: usize = 30_522;
/// Tokens that a text may have.
pub(crate) const POSITIONS: usize = 512;
const LAYERS: usize = 4;
const HIDDEN: usize = 312;
const HEADS: usize = 12;
const WIDE: usize = 1200;
const EPSILON: f32 = 1e-12;

/// Uniform with BERT's standard deviation of 0.02.
const BOUND: f32 = 0.034_641;

/// The student of TinyBERT (Jiao et al. 2020): BERT (Devlin et al. 2019) of four narrow layers, for
/// texts of `length` ids of its uncased vocabulary. Id 0 is padding, which nothing attends to.
pub(crate) fn tinybert(length: usize, classes: usize) -> Layers {
    let linear = |inputs, outputs| Linear::new(inputs, outputs).spread(BOUND);
    let norm = || Box::new(LayerNorm::new(length, HIDDEN, EPSILON));
    let added = |body| {
        let width = length * HIDDEN;
        let direct = Chain::new(width, Vec::new());
        Box::new(Residual::new(Chain::new(width, body), direct, false))
    };
    let padding = Padding::default();
    let embedding = Embedding::new(VOCABULARY, HIDDEN, length, BOUND)
        .with_positions(POSITIONS)
        .noting(padding.clone());
    let mut layers: Layers = vec![Box::new(embedding), norm()];
    for _ in 0..LAYERS {
        let attention = Attention::new(length, HIDDEN, HEADS)
            .without(padding.clone())
            .spread(BOUND);
        layers.push(added(vec![Box::new(attention)]));
        layers.push(norm());
        layers.push(added(vec![
            Box::new(linear(HIDDEN, WIDE).over(length)),
            Box::new(Gelu(length * WIDE)),
            Box::new(linear(WIDE, HIDDEN).over(length)),
        ]));
        layers.push(norm());
    }
    layers.push(Box::new(First(HIDDEN)));
    layers.push(Box::new(linear(HIDDEN, HIDDEN)));
    layers.push(Box::new(Tanh(HIDDEN)));
    layers.push(Box::new(linear(HIDDEN, classes)));
    layers
}
