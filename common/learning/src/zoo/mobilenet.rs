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
    let (stem, mut size) = normed(channels, STEM, (3, 1), [height, width], RELU6);
    layers.push(stem);
    let mut inputs = STEM;
    for [expansion, outputs, blocks, stride] in STAGES {
        for block in 0..blocks {
            let stride = if block == 0 { stride } else { 1 };
            let (body, smaller) = inverted(inputs, outputs, expansion, stride, size);
            if stride == 1 && inputs == outputs {
                let width = inputs * size[0] * size[1];
                let body = Chain::new(width, body);
                let direct = Chain::new(width, Vec::new());
                layers.push(Box::new(Residual::new(body, direct, false)));
            } else {
                layers.extend(body);
            }
            (inputs, size) = (outputs, smaller);
        }
    }
    let (last, _) = normed(inputs, LAST, (1, 1), size, RELU6);
    layers.push(last);
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
) -> (Layers, [usize; 2]) {
    let wide = inputs * expansion;
    let mut body: Layers = Vec::new();
    if expansion > 1 {
        body.push(normed(inputs, wide, (1, 1), size, RELU6).0);
    }
    let smaller = size.map(|side| (side - 1) / stride + 1);
    let norm = BatchNorm::new(wide, smaller[0] * smaller[1]).clamped(6.0);
    body.push(Box::new(Normed::new(
        DepthwiseConv::new(wide, stride, size),
        norm,
    )));
    body.push(normed(wide, outputs, (1, 1), smaller, None).0);
    (body, smaller)
}
