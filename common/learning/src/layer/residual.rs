use super::{Backward, Chain, Forward, Layer, Tensor};
use crate::kernels;

/// `body(x) + shortcut(x)` (He et al. 2016), then ReLU if wished. An empty shortcut is x itself.
pub(crate) struct Residual {
    body: Chain,
    shortcut: Chain,
    relu: bool,
    /// Where the shortcut's parameters and gathered values begin.
    split: (usize, usize),
    direct: Vec<f32>,
    dx: Vec<f32>,
}

impl Residual {
    pub(crate) fn new(body: Chain, shortcut: Chain, relu: bool) -> Self {
        let count = |tensors: Vec<Tensor>| tensors.iter().map(Tensor::len).sum();
        Self {
            split: (count(body.tensors()), count(body.gathered())),
            body,
            shortcut,
            relu,
            direct: Vec::new(),
            dx: Vec::new(),
        }
    }

    fn named(body: Vec<Tensor>, shortcut: Vec<Tensor>) -> Vec<Tensor> {
        let prefix = |prefix: &'static str| {
            move |tensor: Tensor| Tensor {
                name: format!("{prefix}.{}", tensor.name),
                ..tensor
            }
        };
        let body = body.into_iter().map(prefix("body"));
        body.chain(shortcut.into_iter().map(prefix("shortcut")))
            .collect()
    }
}

impl Layer for Residual {
    fn name(&self) -> &'static str {
        "residual"
    }

    fn output(&self) -> usize {
        self.body.output()
    }

    fn tensors(&self) -> Vec<Tensor> {
        Self::named(self.body.tensors(), self.shortcut.tensors())
    }

    fn gathered(&self) -> Vec<Tensor> {
        Self::named(self.body.gathered(), self.shortcut.gathered())
    }

    fn operations(&self) -> u64 {
        self.body.operations() + self.shortcut.operations()
    }

    fn held(&self) -> usize {
        let own = match self.shortcut.is_empty() {
            true => 0,
            false => self.output() + self.body.width(),
        };
        self.body.held() + self.shortcut.held() + own
    }

    fn forward(&mut self, mut pass: Forward<'_>, y: &mut [f32]) {
        let (of_body, of_shortcut) = pass.weights.split_at(self.split.0);
        let (body, shortcut) = pass.gathered.split_at_mut(self.split.1);
        let below = Forward {
            weights: of_body,
            gathered: body,
            x: pass.x,
            samples: pass.samples,
            rng: pass.rng.as_deref_mut(),
        };
        self.body.forward(below, y);
        let direct = match self.shortcut.is_empty() {
            true => pass.x,
            false => {
                self.direct.resize(y.len(), 0.0);
                let beside = Forward {
                    weights: of_shortcut,
                    gathered: shortcut,
                    ..pass
                };
                self.shortcut.forward(beside, &mut self.direct);
                &self.direct
            }
        };
        match self.relu {
            true => kernels::add_relu(y, direct),
            false => kernels::add(y, direct),
        }
    }

    fn backward(&mut self, pass: Backward<'_>, dw: &mut [f32], dx: Option<&mut [f32]>) {
        let Backward {
            weights,
            x,
            y,
            dy,
            samples,
        } = pass;
        if self.relu {
            kernels::mask(dy, y);
        }
        let (of_body, of_shortcut) = weights.split_at(self.split.0);
        let (body, shortcut) = dw.split_at_mut(self.split.0);
        let Some(dx) = dx else {
            self.body.run_back((of_body, x), dy, samples, body, None);
            self.shortcut
                .run_back((of_shortcut, x), dy, samples, shortcut, None);
            return;
        };
        self.body
            .run_back((of_body, x), dy, samples, body, Some(&mut *dx));
        if self.shortcut.is_empty() {
            return kernels::add(dx, dy);
        }
        self.dx.resize(dx.len(), 0.0);
        let pass = Backward {
            weights: of_shortcut,
            x,
            y: &self.direct,
            dy,
            samples,
        };
        self.shortcut.backward(pass, shortcut, Some(&mut self.dx));
        kernels::add(dx, &self.dx);
    }
}
