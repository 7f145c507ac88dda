use super::{Layers, entry};
use crate::kernels::Axis;
use crate::layer::{Conv, GlobalPool, GroupNorm, Linear, Relu};

/// Three convolutions over time, each halving it, with group normalisation; then the mean over time.
pub(crate) fn sensor_conv([channels, length]: [usize; 2], classes: usize) -> Layers {
    let mut layers = entry([channels, 1, length]);
    let (mut inputs, mut length) = (channels, length);
    let whole = Axis {
        size: 1,
        kernel: 1,
        stride: 1,
        pad: 0,
    };
    for outputs in [32, 64, 64] {
        let time = Axis {
            size: length,
            kernel: 5,
            stride: 2,
            pad: 2,
        };
        layers.push(Box::new(Conv::new(whole, time, inputs, outputs)));
        (inputs, length) = (outputs, time.outputs());
        layers.push(Box::new(GroupNorm::new(outputs / 8, outputs, length)));
        layers.push(Box::new(Relu(outputs * length)));
    }
    layers.push(Box::new(GlobalPool::new(inputs, length)));
    layers.push(Box::new(Linear::new(inputs, classes)));
    layers
}
