//! What the nets of [`Architecture`](crate::Architecture) are made of.

mod bert;
mod conv;
mod mlp;
mod mobilenet;
mod resnet;
mod sensor;

pub(crate) use bert::{POSITIONS, tinybert};
pub(crate) use conv::{conv, fedavg_cnn};
pub(crate) use mlp::mlp;
pub(crate) use mobilenet::mobilenet;
pub(crate) use resnet::resnet;
pub(crate) use sensor::sensor_conv;

use crate::layer::{BatchNorm, ChannelsLast, Conv, Layer};

type Layers = Vec<Box<dyn Layer>>;

/// Images come channels first.
fn entry([channels, height, width]: [usize; 3]) -> Layers {
    match channels {
        1 => Vec::new(),
        _ => vec![Box::new(ChannelsLast::new(channels, height * width))],
    }
}

/// A convolution with batch normalisation, and a bound on what comes out where one is wished; and the
/// size of what comes out.
fn normed(
    inputs: usize,
    outputs: usize,
    (kernel, stride): (usize, usize),
    [height, width]: [usize; 2],
    bound: Option<f32>,
) -> (Conv, BatchNorm, [usize; 2]) {
    let size = [height, width].map(|side| (side - 1) / stride + 1);
    let conv = Conv::square(inputs, outputs, kernel, stride, [height, width]).without_bias();
    let norm = BatchNorm::new(outputs, size[0] * size[1]);
    let norm = match bound {
        Some(bound) => norm.clamped(bound),
        None => norm,
    };
    (conv, norm, size)
}
