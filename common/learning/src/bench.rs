//! Single layers at sizes that the nets of [`Architecture`](crate::Architecture) have, and the
//! product below them, for benches alone.

use rand::RngExt;
use rand_chacha::ChaCha20Rng;

use crate::kernels::{self, Ending, Left, Right};
use crate::layer::{
    Attention, Backward, BatchNorm, Conv, DepthwiseConv, Dropout, Embedding, Forward, Gelu,
    GlobalPool, GroupNorm, Layer, LayerNorm, Linear, MaxPool, Relu, Tensor,
};
use crate::seed;

/// Values in `-1..1`.
pub fn random(count: usize) -> Vec<f32> {
    let mut rng = seed::stream(1, "bench");
    let value = || 2.0 * rng.random::<f32>() - 1.0;
    std::iter::repeat_with(value).take(count).collect()
}

/// A layer outside of a net, with all that its passes read and write.
pub struct Single {
    layer: Box<dyn Layer>,
    weights: Vec<f32>,
    gathered: Vec<f32>,
    samples: usize,
    x: Vec<f32>,
    y: Vec<f32>,
    dw: Vec<f32>,
    /// Not there where the layer comes first in its net.
    dx: Option<Vec<f32>>,
    rng: ChaCha20Rng,
}

impl Single {
    fn new(layer: impl Layer + 'static, x: Vec<f32>, samples: usize) -> Self {
        let count = |tensors: Vec<Tensor>| tensors.iter().map(Tensor::len).sum::<usize>();
        let weights = random(count(layer.tensors()));
        let mut single = Self {
            gathered: vec![0.0; count(layer.gathered())],
            samples,
            y: vec![0.0; samples * layer.output()],
            dw: vec![0.0; weights.len()],
            dx: Some(vec![0.0; x.len()]),
            x,
            weights,
            layer: Box::new(layer),
            rng: seed::stream(1, "dropout"),
        };
        // A backward pass needs one before it, and buffers are there from the first one on.
        single.forward();
        single
    }

    /// The first of its net, where nobody wants the gradient of what comes in.
    fn first(self) -> Self {
        Self { dx: None, ..self }
    }

    /// A training forward pass.
    pub fn forward(&mut self) {
        let pass = Forward {
            weights: &self.weights,
            gathered: &mut self.gathered,
            x: &self.x,
            samples: self.samples,
            rng: Some(&mut self.rng),
        };
        self.layer.forward(pass, &mut self.y);
    }

    /// The gradients, from the output's, which may be overwritten.
    pub fn backward(&mut self, dy: &mut [f32]) {
        let pass = Backward {
            weights: &self.weights,
            x: &self.x,
            y: &self.y,
            dy,
            samples: self.samples,
        };
        self.layer
            .backward(pass, &mut self.dw, self.dx.as_deref_mut());
    }

    /// Values that come out.
    pub fn outputs(&self) -> usize {
        self.y.len()
    }

    /// Floating-point operations of a forward pass and of a backward pass, counted as in
    /// [`Net::operations`](crate::Net::operations).
    pub fn operations(&self) -> [u64; 2] {
        let forward = self.layer.operations() * self.samples as u64;
        let gradients = 1 + u64::from(self.dx.is_some());
        [forward, gradients * forward]
    }
}

/// What makes a layer for batches of so many samples.
pub type Make = fn(usize) -> Single;

/// Layers by what they are and where they come from.
pub const LAYERS: [(&str, Make); 26] = [
    ("conv 5x5, 1-32, 28x28, relu (fedavg-cnn)", |n| {
        conv(n, 1, 32, (5, 1), 28, true).first()
    }),
    ("conv 5x5, 32-64, 14x14, relu (fedavg-cnn)", |n| {
        conv(n, 32, 64, (5, 1), 14, true)
    }),
    ("conv 3x3, 3-16, 32x32 (resnet-8)", |n| {
        conv(n, 3, 16, (3, 1), 32, false).first()
    }),
    ("conv 3x3, 16-16, 32x32 (resnet-8)", |n| {
        conv(n, 16, 16, (3, 1), 32, false)
    }),
    ("conv 3x3, 64-64, 8x8 (resnet-8)", |n| {
        conv(n, 64, 64, (3, 1), 8, false)
    }),
    ("conv 3x3 stride 2, 16-32, 32x32 (resnet-8)", |n| {
        conv(n, 16, 32, (3, 2), 32, false)
    }),
    ("conv 1x1 stride 2, 16-32, 32x32 (resnet-8)", |n| {
        conv(n, 16, 32, (1, 2), 32, false)
    }),
    ("conv 1x1, 16-96, 16x16 (mobilenet-v2)", |n| {
        conv(n, 16, 96, (1, 1), 16, false)
    }),
    ("depthwise 3x3, 96, 16x16 (mobilenet-v2)", |n| {
        dense(DepthwiseConv::new(96, 1, [16, 16]), n, 96 * 256)
    }),
    ("depthwise 3x3 stride 2, 96, 16x16 (mobilenet-v2)", |n| {
        dense(DepthwiseConv::new(96, 2, [16, 16]), n, 96 * 256)
    }),
    ("batch norm, 16, 32x32, relu (resnet-8)", |n| {
        let norm = BatchNorm::new(16, 1024).clamped(f32::INFINITY);
        dense(norm, n, 16 * 1024)
    }),
    ("batch norm, 96, 16x16, relu6 (mobilenet-v2)", |n| {
        dense(BatchNorm::new(96, 256).clamped(6.0), n, 96 * 256)
    }),
    ("group norm, 16, 28x28 (conv-m)", |n| {
        dense(GroupNorm::new(4, 16, 784), n, 16 * 784)
    }),
    ("relu, 16, 28x28 (conv-m)", |n| {
        dense(Relu(16 * 784), n, 16 * 784)
    }),
    ("max pool, 32, 28x28 (fedavg-cnn)", |n| {
        dense(MaxPool::new(32, 28, 28), n, 32 * 784)
    }),
    ("global pool, 64, 8x8 (resnet-8)", |n| {
        dense(GlobalPool::new(64, 64), n, 64 * 64)
    }),
    ("linear, 784-256, relu (mlp)", |n| {
        dense(Linear::new(784, 256).with_relu(), n, 784).first()
    }),
    ("linear, 128-10 (mlp)", |n| {
        dense(Linear::new(128, 10), n, 128)
    }),
    ("linear, 3136-512, relu (fedavg-cnn)", |n| {
        let linear = Linear::new(3136, 512).after_images(64);
        dense(linear.with_relu(), n, 3136)
    }),
    ("dropout, 512 (mlp-l)", |n| {
        dense(Dropout::new(512, 0.1), n, 512)
    }),
    ("linear, 64 x 312-1200 (tinybert-4)", |n| {
        dense(Linear::new(312, 1200).over(64), n, 64 * 312)
    }),
    ("linear, 64 x 1200-312 (tinybert-4)", |n| {
        dense(Linear::new(1200, 312).over(64), n, 64 * 1200)
    }),
    ("layer norm, 64 x 312 (tinybert-4)", |n| {
        dense(LayerNorm::new(64, 312, 1e-12), n, 64 * 312)
    }),
    ("gelu, 64 x 1200 (tinybert-4)", |n| {
        dense(Gelu(64 * 1200), n, 64 * 1200)
    }),
    ("attention, 64 x 312, 12 heads (tinybert-4)", |n| {
        dense(Attention::new(64, 312, 12), n, 64 * 312)
    }),
    ("embedding, 30522 x 312, 64 ids (tinybert-4)", |n| {
        let ids = random(n * 64).into_iter();
        let ids = ids.map(|value| (value.abs() * 30_522.0).floor());
        let embedding = Embedding::new(30_522, 312, 64, 0.035).with_positions(512);
        Single::new(embedding, ids.collect(), n).first()
    }),
];

fn dense(layer: impl Layer + 'static, samples: usize, inputs: usize) -> Single {
    Single::new(layer, random(samples * inputs), samples)
}

fn conv(
    samples: usize,
    inputs: usize,
    outputs: usize,
    (kernel, stride): (usize, usize),
    side: usize,
    relu: bool,
) -> Single {
    let conv = Conv::square(inputs, outputs, kernel, stride, [side, side]);
    // As in the nets: a bias goes with ReLU, none with a normalisation.
    let conv = match relu {
        true => conv.with_relu(),
        false => conv.without_bias(),
    };
    dense(conv, samples, inputs * side * side)
}

/// `out = a b` of two square matrices of this side.
pub fn product(out: &mut [f32], a: &[f32], b: &[f32], side: usize) {
    let left = Left::new(a, side, side);
    let start = kernels::Start::Zero;
    kernels::product(out, start, left, Right::Plain(b), side, Ending::Plain);
}
