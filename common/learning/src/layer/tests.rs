//! Every layer's gradients against slopes, and whole nets against candle's autograd.

use rand::RngExt;

use super::*;
use crate::{Architecture, CandleModel, Mode, Model, seed};

fn random(count: usize, purpose: &str) -> Vec<f32> {
    let mut rng = seed::stream(5, purpose);
    (0..count)
        .map(|_| 2.0 * rng.random::<f32>() - 1.0)
        .collect()
}

/// Checks that `dw` and `dx` are the slopes of `sum(dy * y)`.
fn check_layer(mut layer: impl Layer, inputs: usize, samples: usize) {
    let name = layer.name();
    let count = |tensors: Vec<Tensor>| tensors.iter().map(Tensor::len).sum::<usize>();
    let (own, kept) = (count(layer.tensors()), count(layer.gathered()));
    let mut weights = random(own, "weights");
    // Apart from one another, so that a small step changes no maximum.
    let mut x: Vec<f32> = seed::permutation(samples * inputs, &mut seed::stream(9, name))
        .into_iter()
        .map(|rank| 4.0 * (rank as f32 + 0.5) / (samples * inputs) as f32 - 2.0)
        .collect();
    let dy = random(samples * layer.output(), "dy");
    let run = |layer: &mut dyn Layer, weights: &[f32], x: &[f32]| -> Vec<f32> {
        let mut y = vec![f32::NAN; samples * layer.output()];
        let pass = Forward {
            weights,
            gathered: &mut vec![0.0; kept],
            x,
            samples,
            rng: Some(&mut seed::stream(1, "dropout")),
        };
        layer.forward(pass, &mut y);
        y
    };
    let value = |layer: &mut dyn Layer, weights: &[f32], x: &[f32]| -> f64 {
        let y = run(layer, weights, x);
        let products = y.iter().zip(&dy);
        products.map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum()
    };
    let y = run(&mut layer, &weights, &x);
    let mut dw = vec![f32::NAN; own];
    let mut dx = vec![f32::NAN; x.len()];
    let pass = Backward {
        weights: &weights,
        x: &x,
        y: &y,
        dy: &mut dy.clone(),
        samples,
    };
    layer.backward(pass, &mut dw, Some(&mut dx));
    let h = 1e-3;
    for (which, gradient) in [dw, dx].into_iter().enumerate() {
        for (index, gradient) in gradient.into_iter().enumerate() {
            let mut at = |offset: f32| {
                let values = if which == 0 { &mut weights } else { &mut x };
                values[index] += offset;
                value(&mut layer, &weights, &x)
            };
            let above = at(h);
            let below = at(-2.0 * h);
            at(h);
            let slope = (above - below) / f64::from(2.0 * h);
            let gap = (slope - f64::from(gradient)).abs();
            assert!(gap < 2e-2, "{name}, {which}, {index}: {slope} {gradient}");
        }
    }
}

fn normed() -> Normed {
    let conv = Conv::square(2, 4, 3, 2, [4, 5]).without_bias();
    Normed::new(40, conv, BatchNorm::new(4, 6).clamped(f32::INFINITY))
}

/// And a depthwise convolution and one that narrows after it.
fn three_stages() -> Normed {
    let narrow = Conv::square(4, 3, 1, 1, [2, 3]).without_bias();
    let depthwise = DepthwiseConv::new(4, 1, [2, 3]);
    normed()
        .then(depthwise, BatchNorm::new(4, 6).clamped(6.0))
        .then(narrow, BatchNorm::new(3, 6))
}

/// Of two samples of four tokens: none of the first's is padding, and the last `count` of the second.
fn padding(count: usize) -> Padding {
    let padding = Padding::default();
    let tokens: Vec<f32> = (0..8)
        .map(|at| if at < 8 - count { 1.0 } else { 0.0 })
        .collect();
    padding.note(&tokens, |id| id == 0.0);
    padding
}

#[test]
fn gradients_are_slopes() {
    check_layer(Linear::new(5, 4), 5, 3);
    check_layer(Linear::new(5, 4).with_relu(), 5, 3);
    check_layer(Linear::new(5, 4).over(2), 10, 3);
    check_layer(Linear::new(5, 4).over(3), 15, 3);
    check_layer(Relu(6), 6, 3);
    check_layer(Gelu(6), 6, 3);
    check_layer(Tanh(6), 6, 3);
    check_layer(First(4), 12, 2);
    check_layer(LayerNorm::new(3, 5, 1e-5), 15, 2);
    check_layer(Attention::new(3, 4, 2), 12, 2);
    check_layer(Attention::new(4, 6, 2).without(padding(2)), 24, 2);
    check_layer(Embedding::new(5, 3, 4, 0.1).with_positions(6), 4, 2);
    check_layer(Dropout::new(6, 0.5), 6, 4);
    check_layer(ChannelsLast::new(3, 4), 12, 2);
    check_layer(Conv::square(2, 3, 3, 1, [4, 5]), 40, 2);
    check_layer(Conv::square(1, 2, 5, 1, [3, 3]).with_relu(), 9, 2);
    check_layer(Conv::square(3, 2, 1, 1, [2, 2]), 12, 2);
    check_layer(Conv::square(3, 2, 1, 2, [3, 4]).without_bias(), 36, 2);
    check_layer(DepthwiseConv::new(3, 2, [4, 3]), 36, 2);
    check_layer(GroupNorm::new(2, 4, 6), 24, 2);
    check_layer(BatchNorm::new(3, 4), 12, 3);
    check_layer(BatchNorm::new(3, 4).clamped(1.0), 12, 3);
    check_layer(normed(), 40, 2);
    check_layer(three_stages(), 40, 2);
    check_layer(MaxPool::new(2, 4, 5), 40, 2);
    check_layer(GlobalPool::new(3, 4), 12, 2);
    let body: Vec<Box<dyn Layer>> = vec![
        Box::new(Linear::new(4, 3).with_relu()),
        Box::new(Linear::new(3, 4)),
    ];
    check_layer(
        Residual::new(Chain::new(4, body), Chain::new(4, Vec::new()), false),
        4,
        2,
    );
    let body: Vec<Box<dyn Layer>> = vec![Box::new(normed())];
    let conv = Conv::square(2, 4, 1, 2, [4, 5]).without_bias();
    let shortcut: Vec<Box<dyn Layer>> = vec![Box::new(Normed::new(40, conv, BatchNorm::new(4, 6)))];
    check_layer(
        Residual::new(Chain::new(40, body), Chain::new(40, shortcut), true),
        40,
        2,
    );
}

#[test]
fn a_pool_gives_the_whole_gradient_to_the_largest() {
    // candle 0.11.1 has 0.25 here.
    let mut pool = MaxPool::new(1, 2, 2);
    let mut y = [0.0];
    let x = [1.0, 2.0, 3.0, 4.0];
    let pass = Forward {
        weights: &[],
        gathered: &mut [],
        x: &x,
        samples: 1,
        rng: None,
    };
    pool.forward(pass, &mut y);
    let mut dx = [f32::NAN; 4];
    let pass = Backward {
        weights: &[],
        x: &x,
        y: &y,
        dy: &mut [1.0],
        samples: 1,
    };
    pool.backward(pass, &mut [], Some(&mut dx));
    assert_eq!((y, dx), ([4.0], [0.0, 0.0, 0.0, 1.0]));
}

#[test]
fn samples_may_go_through_in_any_groups() {
    let run = |group: usize| {
        let mut layer = three_stages().in_groups_of(group);
        let count = |tensors: Vec<Tensor>| tensors.iter().map(Tensor::len).sum::<usize>();
        let weights = random(count(layer.tensors()), "weights");
        let mut gathered = random(count(layer.gathered()), "gathered");
        let (x, mut dy) = (random(7 * 40, "x"), random(7 * 18, "dy"));
        let (mut y, mut dw) = (vec![f32::NAN; dy.len()], vec![f32::NAN; weights.len()]);
        let mut dx = vec![f32::NAN; x.len()];
        let mut rng = seed::stream(0, "none");
        let pass = Forward {
            weights: &weights,
            gathered: &mut gathered,
            x: &x,
            samples: 7,
            rng: Some(&mut rng),
        };
        layer.forward(pass, &mut y);
        let pass = Backward {
            weights: &weights,
            x: &x,
            y: &y,
            dy: &mut dy,
            samples: 7,
        };
        layer.backward(pass, &mut dw, Some(&mut dx));
        gathered.iter_mut().for_each(|value| *value = value.abs());
        let mut evaluated = vec![f32::NAN; y.len()];
        let pass = Forward {
            weights: &weights,
            gathered: &mut gathered.clone(),
            x: &x,
            samples: 7,
            rng: None,
        };
        layer.forward(pass, &mut evaluated);
        [y, gathered, dw, dx, evaluated]
    };
    let whole = run(7);
    assert!(whole.iter().flatten().all(|value| value.is_finite()));
    for group in 1..7 {
        assert!(run(group) == whole, "in groups of {group}");
    }
}

#[test]
fn evaluation_folds_a_normalisation_into_its_convolution() {
    let mut layer = normed();
    let count = |tensors: Vec<Tensor>| tensors.iter().map(Tensor::len).sum::<usize>();
    let weights = random(count(layer.tensors()), "weights");
    let (kernel, norm) = weights.split_at(2 * 4 * 9);
    let mut gathered = vec![0.2, -0.1, 0.3, 0.0, 1.5, 0.5, 2.0, 1.0];
    let x = random(2 * 40, "x");
    let run = |layer: &mut dyn Layer, weights: &[f32], gathered: &mut [f32], x: &[f32]| {
        let mut y = vec![f32::NAN; 2 * layer.output()];
        let pass = Forward {
            weights,
            gathered,
            x,
            samples: 2,
            rng: None,
        };
        layer.forward(pass, &mut y);
        y
    };
    let folded = run(&mut layer, &weights, &mut gathered, &x);
    let mut conv = Conv::square(2, 4, 3, 2, [4, 5]).without_bias();
    let raw = run(&mut conv, kernel, &mut [], &x);
    let mut plain = BatchNorm::new(4, 6).clamped(f32::INFINITY);
    let apart = run(&mut plain, norm, &mut gathered, &raw);
    assert!(folded.iter().zip(&apart).all(|(a, b)| (a - b).abs() < 1e-5));
    assert!(folded.contains(&0.0) && folded.iter().any(|y| *y > 0.0));
}

#[test]
fn every_parameter_of_every_net_learns() {
    for (name, architecture) in Architecture::ALL {
        let shape: &[u32] = match architecture {
            Architecture::SensorConv => &[4, 16],
            Architecture::TinyBert4 => &[8],
            _ => &[1, 8, 8],
        };
        let mut net = architecture.build(shape, 3, 1).unwrap();
        let mut batch = random(16 * 64, "batch");
        if architecture == Architecture::TinyBert4 {
            batch.truncate(16 * 8);
            batch.iter_mut().for_each(|id| *id = (*id + 1.0) * 15_000.0);
        }
        let before = net.weights().to_vec();
        for step in 0..3 {
            let mut rng = seed::stream(step, "dropout");
            let logits = net.forward(&batch, Mode::Train(&mut rng)).unwrap().to_vec();
            net.backward(&logits).unwrap();
            net.step(&mut |w, g| w.iter_mut().zip(g).for_each(|(w, g)| *w -= 0.01 * g))
                .unwrap();
        }
        let mut start = 0;
        for parameter in net.parameters() {
            let range = start..start + parameter.len();
            assert_ne!(
                net.weights()[range.clone()],
                before[range.clone()],
                "{name} {}",
                parameter.name
            );
            start = range.end;
        }
        assert_eq!(start, before.len());
    }
}

fn in_file_order(net: &crate::Net, mut values: &[f32]) -> Vec<f32> {
    let mut file = Vec::new();
    for parameter in net.parameters() {
        let (own, rest) = values.split_at(parameter.len());
        file.extend(parameter.to_file(own));
        assert_eq!(parameter.from_file(&parameter.to_file(own)), own);
        values = rest;
    }
    file
}

#[test]
fn a_net_agrees_with_candle() {
    // Convolution, ReLU and linear: what candle has right gradients for.
    let layers: Vec<Box<dyn Layer>> = vec![
        Box::new(ChannelsLast::new(2, 30)),
        Box::new(Conv::square(2, 3, 3, 1, [6, 5]).with_relu()),
        Box::new(Linear::new(90, 7).after_images(3).with_relu()),
        Box::new(Linear::new(7, 4)),
    ];
    let mut net = crate::Net::new(vec![2, 6, 5], layers, &mut seed::stream(3, "parameters"));
    let mut other = CandleModel::build(vec![2, 6, 5], 4, 3, candle_core::Device::Cpu, |vb| {
        let config = candle_nn::Conv2dConfig {
            padding: 1,
            ..Default::default()
        };
        let conv = candle_nn::conv2d(2, 3, 3, config, vb.pp("conv"))?;
        let a = candle_nn::linear(90, 7, vb.pp("a"))?;
        let b = candle_nn::linear(7, 4, vb.pp("b"))?;
        Ok(candle_nn::func(move |x| {
            let x = x.apply(&conv)?.relu()?.flatten_from(1)?;
            x.apply(&a)?.relu()?.apply(&b)
        }))
    })
    .unwrap();
    assert_eq!(net.weights().len(), other.weights().len());
    other
        .set_weights(&in_file_order(&net, net.weights()))
        .unwrap();
    let batch = random(5 * 60, "batch");
    let gradient = random(5 * 4, "gradient");
    let run = |model: &mut dyn Model| {
        let mut rng = seed::stream(0, "none");
        let logits = model
            .forward(&batch, Mode::Train(&mut rng))
            .unwrap()
            .to_vec();
        model.backward(&gradient).unwrap();
        model.step(&mut |w, g| w.copy_from_slice(g)).unwrap();
        (logits, model.weights().to_vec())
    };
    let (mut ours, theirs) = (run(&mut net), run(&mut other));
    ours.1 = in_file_order(&net, &ours.1);
    let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
    assert!(close(&ours.0, &theirs.0), "logits");
    assert!(close(&ours.1, &theirs.1), "gradients");
}

#[test]
fn a_candle_operation_without_a_gradient_is_refused() {
    let mut model = CandleModel::build(vec![4], 3, 1, candle_core::Device::Cpu, |vb| {
        let below = candle_nn::linear(4, 3, vb.pp("below"))?;
        Ok(candle_nn::func(move |x| {
            candle_nn::ops::softmax_last_dim(&candle_nn::Module::forward(&below, x)?)
        }))
    })
    .unwrap();
    let mut rng = seed::stream(0, "none");
    model.forward(&[0.1; 8], Mode::Train(&mut rng)).unwrap();
    let error = model.backward(&[1.0; 6]).unwrap_err().to_string();
    assert!(error.contains("below.weight gets no gradient"), "{error}");
}

#[test]
fn a_candle_module_starts_from_its_seed() {
    let build = |seed| {
        CandleModel::build(vec![4], 3, seed, candle_core::Device::Cpu, |vb| {
            candle_nn::linear(4, 3, vb)
        })
        .unwrap()
        .weights()
        .to_vec()
    };
    assert_eq!(build(1), build(1));
    assert_ne!(build(1), build(2));
}

#[test]
fn what_is_no_number_comes_through() {
    // Else training that ran away would go unnoticed.
    let layers: [Box<dyn Layer>; 3] = [
        Box::new(Relu(4)),
        Box::new(Linear::new(4, 4).with_relu()),
        Box::new(BatchNorm::new(4, 1).clamped(6.0)),
    ];
    for mut layer in layers {
        let weights = vec![f32::NAN; layer.tensors().iter().map(Tensor::len).sum()];
        let mut y = [0.0; 8];
        let pass = Forward {
            weights: &weights,
            gathered: &mut [0.0; 8],
            x: &[f32::NAN; 8],
            samples: 2,
            rng: None,
        };
        layer.forward(pass, &mut y);
        assert!(y.iter().all(|y| y.is_nan()), "{}", layer.name());
    }
}

#[test]
fn a_backward_pass_needs_a_training_pass() {
    let mut net = crate::Net::mlp(&[4], &[3], 2, 1).unwrap();
    net.forward(&[0.5; 8], Mode::Evaluate).unwrap();
    for gradient in [&[][..], &[1.0; 4]] {
        let error = net.backward(gradient).unwrap_err().to_string();
        assert!(error.contains("training pass"), "{error}");
    }
}
