use super::{Layers, entry, normed};
use crate::layer::{Chain, GlobalPool, Linear, Normed, Residual};

const RELU: Option<f32> = Some(f32::INFINITY);

/// The residual nets for small images of He et al. (2016), section 4.2: three stages of 16, 32 and
/// 64 channels with `blocks` blocks each, and 1 x 1 convolutions where a shortcut changes size.
pub(crate) fn resnet(
    [channels, height, width]: [usize; 3],
    blocks: usize,
    classes: usize,
) -> Layers {
    let mut layers = entry([channels, height, width]);
    let (stem, norm, mut size) = normed(channels, 16, (3, 1), [height, width], RELU);
    let input = channels * height * width;
    layers.push(Box::new(Normed::new(input, stem, norm)));
    let mut inputs = 16;
    for outputs in [16, 32, 64] {
        for block in 0..blocks {
            let stride = if block == 0 && outputs > 16 { 2 } else { 1 };
            let width = inputs * size[0] * size[1];
            let (first, norm, smaller) = normed(inputs, outputs, (3, stride), size, RELU);
            let body = Normed::new(width, first, norm);
            let (second, norm, _) = normed(outputs, outputs, (3, 1), smaller, None);
            let body = Chain::new(width, vec![Box::new(body.then(second, norm))]);
            let shortcut: Layers = match inputs == outputs {
                true => Vec::new(),
                false => {
                    let (direct, norm, _) = normed(inputs, outputs, (1, stride), size, None);
                    vec![Box::new(Normed::new(width, direct, norm))]
                }
            };
            layers.push(Box::new(Residual::new(
                body,
                Chain::new(width, shortcut),
                true,
            )));
            (inputs, size) = (outputs, smaller);
        }
    }
    layers.push(Box::new(GlobalPool::new(inputs, size[0] * size[1])));
    layers.push(Box::new(Linear::new(inputs, classes)));
    layers
}
