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
    let count: usize = layer
        .tensors()
        .iter()
        .map(|t| t.shape.iter().product::<usize>())
        .sum();
    let mut weights = random(count, "weights");
    // Apart from one another, so that a small step changes no maximum.
    let mut x: Vec<f32> = seed::permutation(samples * inputs, &mut seed::stream(9, name))
        .into_iter()
        .map(|rank| 4.0 * (rank as f32 + 0.5) / (samples * inputs) as f32 - 2.0)
        .collect();
    let dy = random(samples * layer.output(), "dy");
    let value = |layer: &mut dyn Layer, weights: &[f32], x: &[f32]| -> f64 {
        let mut y = vec![f32::NAN; samples * layer.output()];
        let mut rng = seed::stream(1, "dropout");
        layer.forward(weights, x, &mut y, samples, Some(&mut rng));
        y.iter()
            .zip(&dy)
            .map(|(y, dy)| f64::from(*y) * f64::from(*dy))
            .sum()
    };
    let mut y = vec![f32::NAN; samples * layer.output()];
    layer.forward(
        &weights,
        &x,
        &mut y,
        samples,
        Some(&mut seed::stream(1, "dropout")),
    );
    let mut dw = vec![f32::NAN; count];
    let mut dx = vec![f32::NAN; x.len()];
    let pass = Backward {
        weights: &weights,
        x: &x,
        y: &y,
        dy: &dy,
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

#[test]
fn gradients_are_slopes() {
    check_layer(Linear::new(5, 4), 5, 3);
    check_layer(Relu(6), 6, 3);
    check_layer(Dropout::new(6, 0.5), 6, 4);
    check_layer(Conv::new(2, 3, 3, 4, 5), 40, 2);
    check_layer(Conv::new(1, 2, 5, 3, 3), 9, 2);
    check_layer(Conv::new(3, 2, 1, 2, 2), 12, 2);
    check_layer(GroupNorm::new(2, 4, 6), 24, 2);
    check_layer(MaxPool::new(2, 4, 5), 40, 2);
}

#[test]
fn a_pool_gives_the_whole_gradient_to_the_largest() {
    // candle 0.11.1 has 0.25 here.
    let mut pool = MaxPool::new(1, 2, 2);
    let mut y = [0.0];
    pool.forward(&[], &[1.0, 2.0, 3.0, 4.0], &mut y, 1, None);
    let mut dx = [f32::NAN; 4];
    let pass = Backward {
        weights: &[],
        x: &[],
        y: &y,
        dy: &[1.0],
        samples: 1,
    };
    pool.backward(pass, &mut [], Some(&mut dx));
    assert_eq!((y, dx), ([4.0], [0.0, 0.0, 0.0, 1.0]));
}

#[test]
fn every_parameter_of_every_net_learns() {
    for (name, architecture) in Architecture::ALL {
        let mut net = architecture.build(&[1, 8, 8], 3, 1).unwrap();
        let batch = random(16 * 64, "batch");
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

#[test]
fn a_net_agrees_with_candle() {
    // Convolution, ReLU and linear: what candle has right gradients for.
    let layers: Vec<Box<dyn Layer>> = vec![
        Box::new(Conv::new(2, 3, 3, 6, 5)),
        Box::new(Relu(90)),
        Box::new(Linear::new(90, 7)),
        Box::new(Relu(7)),
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
    other.set_weights(net.weights()).unwrap();
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
    let (ours, theirs) = (run(&mut net), run(&mut other));
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
