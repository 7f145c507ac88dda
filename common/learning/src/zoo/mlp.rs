use super::Layers;
use crate::layer::{Dropout, Linear};

/// Hidden layers with ReLU, and dropout where its rate is above 0.
pub(crate) fn mlp(mut width: usize, hidden: &[usize], dropout: f32, classes: usize) -> Layers {
    let mut layers: Layers = Vec::new();
    for &units in hidden {
        layers.push(Box::new(Linear::new(width, units).with_relu()));
        if dropout > 0.0 {
            layers.push(Box::new(Dropout::new(units, dropout)));
        }
        width = units;
    }
    layers.push(Box::new(Linear::new(width, classes)));
    layers
}
