use super::{Layers, entry};
use crate::layer::{Conv, Dropout, GroupNorm, Linear, MaxPool, Relu};

/// Two 3 x 3 convolutions, each with group normalisation, ReLU and a pool; then a hidden layer,
/// with dropout, where one is wished.
pub(crate) fn conv(
    [channels, mut height, mut width]: [usize; 3],
    outputs: [usize; 2],
    hidden: Option<(usize, f32)>,
    classes: usize,
) -> Layers {
    let mut layers = entry([channels, height, width]);
    let mut inputs = channels;
    for outputs in outputs {
        let size = outputs * height * width;
        layers.push(Box::new(Conv::square(
            inputs,
            outputs,
            3,
            1,
            [height, width],
        )));
        layers.push(Box::new(GroupNorm::new(
            outputs / 4,
            outputs,
            height * width,
        )));
        layers.push(Box::new(Relu(size)));
        layers.push(Box::new(MaxPool::new(outputs, height, width)));
        (inputs, height, width) = (outputs, height / 2, width / 2);
    }
    let values = inputs * height * width;
    let Some((units, dropout)) = hidden else {
        layers.push(Box::new(Linear::new(values, classes).after_images(inputs)));
        return layers;
    };
    let linear = Linear::new(values, units).after_images(inputs).with_relu();
    layers.push(Box::new(linear));
    if dropout > 0.0 {
        layers.push(Box::new(Dropout::new(units, dropout)));
    }
    layers.push(Box::new(Linear::new(units, classes)));
    layers
}

/// The CNN of McMahan et al. (2017): two 5 x 5 convolutions with ReLU and pools, and 512 units.
pub(crate) fn fedavg_cnn([channels, height, width]: [usize; 3], classes: usize) -> Layers {
    let mut layers = entry([channels, height, width]);
    let halves = [height / 2, width / 2];
    let quarters = halves.map(|side| side / 2);
    let values = 64 * quarters[0] * quarters[1];
    layers.push(Box::new(
        Conv::square(channels, 32, 5, 1, [height, width]).with_relu(),
    ));
    layers.push(Box::new(MaxPool::new(32, height, width)));
    layers.push(Box::new(Conv::square(32, 64, 5, 1, halves).with_relu()));
    layers.push(Box::new(MaxPool::new(64, halves[0], halves[1])));
    layers.push(Box::new(
        Linear::new(values, 512).after_images(64).with_relu(),
    ));
    layers.push(Box::new(Linear::new(512, classes)));
    layers
}
