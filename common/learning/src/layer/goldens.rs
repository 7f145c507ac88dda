//! Layers and optimisers against what PyTorch gave; see `goldens/README.md`.

use fedistill_protocol::Optimiser;

use super::*;
use crate::OptimiserState;
use crate::goldens::Golden;
use crate::kernels::{available, with_kernels};
use crate::model::Parameter;

/// Runs a layer forwards and backwards on every set of instructions, which give the same bits;
/// `gathered` are the golden's names of what the layer gathers.
fn check<L: Layer>(golden: &Golden, training: bool, gathered: &[&str], make: impl Fn() -> L) {
    let run = |set| with_kernels(set, || check_once(golden, training, gathered, make()));
    let results: Vec<[Vec<f32>; 4]> = available().into_iter().map(run).collect();
    for result in &results[1..] {
        assert!(*result == results[0], "{}: bits differ", golden.name);
    }
}

/// The output, what was gathered, and both gradients, which are empty in evaluation.
fn check_once(
    golden: &Golden,
    training: bool,
    gathered: &[&str],
    mut layer: impl Layer,
) -> [Vec<f32>; 4] {
    let (x, dy) = (golden.batch("x"), golden.batch("dy"));
    let samples = dy.len() / layer.output();
    let parameters: Vec<Parameter> = layer
        .tensors()
        .into_iter()
        .map(
            |Tensor {
                 name, shape, order, ..
             }| Parameter { name, shape, order },
        )
        .collect();
    let own = |prefix: &str| -> Vec<f32> {
        let of = |p: &Parameter| p.from_file(golden.values(&rename(prefix, &p.name)));
        parameters.iter().flat_map(of).collect()
    };
    let weights = own("");
    let mut kept: Vec<f32> = gathered
        .iter()
        .flat_map(|name| golden.values(name))
        .copied()
        .collect();
    let mut y = vec![f32::NAN; dy.len()];
    let mut rng = crate::seed::stream(0, "none");
    let pass = Forward {
        weights: &weights,
        gathered: &mut kept,
        x: &x,
        samples,
        rng: training.then_some(&mut rng),
    };
    layer.forward(pass, &mut y);
    let mut expected = golden.batch("y");
    if layer.name() == "depthwise" {
        // Ours has no bias.
        let bias = golden.values("bias");
        for pixel in expected.chunks_exact_mut(bias.len()) {
            pixel.iter_mut().zip(bias).for_each(|(y, bias)| *y -= bias);
        }
    }
    golden.close("y", &y, &expected);
    if !training {
        return [y, kept, Vec::new(), Vec::new()];
    }
    let after: Vec<f32> = gathered
        .iter()
        .flat_map(|name| golden.values(&format!("{name}_after")))
        .copied()
        .collect();
    golden.close("gathered", &kept, &after);
    let (mut dw, mut dx) = (vec![f32::NAN; weights.len()], vec![f32::NAN; x.len()]);
    let pass = Backward {
        weights: &weights,
        x: &x,
        y: &y,
        dy: &mut dy.clone(),
        samples,
    };
    layer.backward(pass, &mut dw, Some(&mut dx));
    golden.close("dx", &dx, &golden.batch("dx"));
    golden.close("dw", &dw, &own("d"));
    [y, kept, dw, dx]
}

/// `q.weight` of a gradient is `q.dweight` there.
fn rename(prefix: &str, name: &str) -> String {
    match name.rsplit_once('.') {
        Some((layer, tensor)) => format!("{layer}.{prefix}{tensor}"),
        None => format!("{prefix}{name}"),
    }
}

#[test]
fn layers_agree_with_pytorch() {
    let read = Golden::read;
    check(&read("linear"), true, &[], || Linear::new(21, 13));
    check(&read("relu"), true, &[], || {
        Relu(read("relu").values("x").len())
    });
    for (name, kernel, stride, inputs, outputs) in [
        ("conv2d_k1_s1_p0_c3_8", 1, 1, 3, 8),
        ("conv2d_k1_s1_p0_c8_4", 1, 1, 8, 4),
        ("conv2d_k1_s2_p0_c3_8", 1, 2, 3, 8),
        ("conv2d_k1_s2_p0_c8_4", 1, 2, 8, 4),
        ("conv2d_k3_s1_p1_c3_8", 3, 1, 3, 8),
        ("conv2d_k3_s1_p1_c8_4", 3, 1, 8, 4),
        ("conv2d_k3_s2_p1_c3_8", 3, 2, 3, 8),
        ("conv2d_k3_s2_p1_c8_4", 3, 2, 8, 4),
        ("conv2d_k5_s1_p2_c3_8", 5, 1, 3, 8),
        ("conv2d_k5_s1_p2_c8_4", 5, 1, 8, 4),
    ] {
        let golden = read(name);
        let bias = golden.tensors.contains_key("bias");
        check(&golden, true, &[], || {
            let conv = Conv::square(inputs, outputs, kernel, stride, [5, 6]);
            if bias { conv } else { conv.without_bias() }
        });
    }
    let image = |golden: &Golden| -> [usize; 3] {
        let shape = &golden.tensors["x"].0;
        [shape[1], shape[2], shape[3]]
    };
    for (name, stride) in [("depthwise_k3_s1_p1", 1), ("depthwise_k3_s2_p1", 2)] {
        let golden = read(name);
        let [channels, height, width] = image(&golden);
        check(&golden, true, &[], || {
            DepthwiseConv::new(channels, stride, [height, width])
        });
    }
    for (name, training) in [("batch_norm_train", true), ("batch_norm_eval", false)] {
        let golden = read(name);
        let [channels, height, width] = image(&golden);
        let gathered = ["running_mean", "running_var"];
        check(&golden, training, &gathered, || {
            BatchNorm::new(channels, height * width)
        });
    }
    let golden = read("normed");
    let gathered: Vec<String> = (0..3)
        .flat_map(|stage| ["mean", "var"].map(|of| format!("{stage}.batch-norm.running_{of}")))
        .collect();
    let gathered: Vec<&str> = gathered.iter().map(String::as_str).collect();
    // In one go, in groups with one left over, and one by one.
    for group in [7, 3, 2, 1] {
        check(&golden, true, &gathered, || {
            let wide = Conv::square(5, 20, 1, 1, [6, 7]).without_bias();
            let narrow = Conv::square(20, 6, 1, 1, [3, 4]).without_bias();
            Normed::new(5 * 42, wide, BatchNorm::new(20, 42).clamped(6.0))
                .then(
                    DepthwiseConv::new(20, 2, [6, 7]),
                    BatchNorm::new(20, 12).clamped(6.0),
                )
                .then(narrow, BatchNorm::new(6, 12))
                .in_groups_of(group)
        });
    }
    let golden = read("group_norm");
    let [channels, height, width] = image(&golden);
    check(&golden, true, &[], || {
        GroupNorm::new(2, channels, height * width)
    });
    for name in ["max_pool_2x2", "max_pool_2x2_ties"] {
        let golden = read(name);
        let [channels, height, width] = image(&golden);
        check(&golden, true, &[], || MaxPool::new(channels, height, width));
    }
    let golden = read("global_avg_pool");
    let [channels, height, width] = image(&golden);
    check(&golden, true, &[], || {
        GlobalPool::new(channels, height * width)
    });
}

#[test]
fn layers_of_transformers_agree_with_pytorch() {
    let read = Golden::read;
    let golden = read("layer_norm");
    let width = golden.values("weight").len();
    check(&golden, true, &[], || LayerNorm::new(1, width, 1e-5));
    let golden = read("gelu");
    check(&golden, true, &[], || Gelu(golden.values("x").len()));
    check(&read("attention"), true, &[], || Attention::new(7, 24, 3));
    let golden = read("attention_masked");
    check(&golden, true, &[], || {
        let padding = Padding::default();
        padding.note(golden.values("mask"), |mask| mask == 0.0);
        Attention::new(7, 24, 3).without(padding)
    });
    let golden = read("embedding");
    let mut layer = Embedding::new(11, 6, 5, 0.1);
    let (ids, dy) = (golden.values("ids"), golden.values("dy"));
    let mut y = vec![f32::NAN; dy.len()];
    let pass = Forward {
        weights: golden.values("weight"),
        gathered: &mut [],
        x: ids,
        samples: 3,
        rng: None,
    };
    layer.forward(pass, &mut y);
    golden.close("y", &y, golden.values("y"));
    let mut dw = vec![f32::NAN; 66];
    let pass = Backward {
        weights: golden.values("weight"),
        x: ids,
        y: &y,
        dy: &mut dy.to_vec(),
        samples: 3,
    };
    layer.backward(pass, &mut dw, None);
    golden.close("dweight", &dw, golden.values("dweight"));
}

#[test]
fn optimisers_agree_with_pytorch() {
    for (name, optimiser) in [
        (
            "sgd_momentum",
            Optimiser::Sgd {
                learning_rate: 0.05,
                momentum: 0.9,
            },
        ),
        (
            "adamw",
            Optimiser::AdamW {
                learning_rate: 0.01,
                weight_decay: 0.1,
            },
        ),
    ] {
        let golden = Golden::read(name);
        let mut weights = golden.values("weight").to_vec();
        let mut state = OptimiserState::new(optimiser, weights.len());
        let steps = golden.values("gradients").chunks(weights.len());
        for (gradients, expected) in steps.zip(golden.values("weights").chunks(weights.len())) {
            state.step(&mut weights, gradients);
            golden.close("weights", &weights, expected);
        }
    }
}
