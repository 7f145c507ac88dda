use super::{Layers, entry, normed};
use crate::layer::{BatchNorm, Chain, DepthwiseConv, GlobalPool, Linear, Normed, Residual};

const RELU6: Option<f32> = Some(6.0);

/// Channels of the first convolution and of the last.
const STEM: usize = 16;
const LAST: usize = 640;

/// Expansion, channels, blocks and stride of each stage.
const STAGES: [[usize; 4]; 7] = [
    [1, 8, 1, 1],
    [6, 16, 2, 2],
    [6, 16, 3, 2],
    [6, 32, 4, 2],
    [6, 48, 3, 1],
    [6, 80, 3, 2],
    [6, 160, 1, 1],
];

/// MobileNetV2 (Sandler et al. 2018) at half its width, with a first step of 1 for small images.
pub(crate) fn mobilenet([channels, height, width]: [usize; 3], classes: usize) -> Layers {
    let mut layers = entry([channels, height, width]);
    let (stem, norm, mut size) = normed(channels, STEM, (3, 1), [height, width], RELU6);
    let input = channels * height * width;
    layers.push(Box::new(Normed::new(input, stem, norm)));
    let mut inputs = STEM;
    for [expansion, outputs, blocks, stride] in STAGES {
        for block in 0..blocks {
            let stride = if block == 0 { stride } else { 1 };
            let width = inputs * size[0] * size[1];
            let (body, smaller) = inverted(inputs, outputs, expansion, stride, size);
            if stride == 1 && inputs == outputs {
                let body = Chain::new(width, vec![Box::new(body)]);
                let direct = Chain::new(width, Vec::new());
                layers.push(Box::new(Residual::new(body, direct, false)));
            } else {
                layers.push(Box::new(body));
            }
            (inputs, size) = (outputs, smaller);
        }
    }
    let (last, norm, _) = normed(inputs, LAST, (1, 1), size, RELU6);
    let width = inputs * size[0] * size[1];
    layers.push(Box::new(Normed::new(width, last, norm)));
    layers.push(Box::new(GlobalPool::new(LAST, size[0] * size[1])));
    layers.push(Box::new(Linear::new(LAST, classes)));
    layers
}

/// Wider, depthwise, narrower again without a bound: what is added up stays linear.
fn inverted(
    inputs: usize,
    outputs: usize,
    expansion: usize,
    stride: usize,
    size: [usize; 2],
) -> (Normed, [usize; 2]) {
    let wide = inputs * expansion;
    let smaller = size.map(|side| (side - 1) / stride + 1);
    let depthwise = DepthwiseConv::new(wide, stride, size);
    let norm = BatchNorm::new(wide, smaller[0] * smaller[1]).clamped(6.0);
    let width = inputs * size[0] * size[1];
    let body = match expansion {
        1 => Normed::new(width, depthwise, norm),
        _ => {
            let (wider, first, _) = normed(inputs, wide, (1, 1), size, RELU6);
            Normed::new(width, wider, first).then(depthwise, norm)
        }
    };
    let (narrower, norm, _) = normed(wide, outputs, (1, 1), smaller, None);
    (body.then(narrower, norm), smaller)
}
