use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::layer::{Conv, Dropout, GroupNorm, Layer, Linear, MaxPool, Relu};
use crate::{Net, seed};

/// The nets that come along: two families of three sizes, for devices of different size.
///
/// With 28 x 28 grey images and 10 classes:
///
/// | name | layers | parameters |
/// |---|---|---|
/// | `mlp-s` | 64 | 50,890 |
/// | `mlp-m` | 256 | 203,530 |
/// | `mlp-l` | 512, 256 | 535,818 |
/// | `conv-s` | 8, 16 channels | 9,146 |
/// | `conv-m` | 16, 32 channels, 64 | 105,962 |
/// | `conv-l` | 32, 64 channels, 128 | 421,834 |
///
/// A convolution is 3 x 3, followed by group normalisation, ReLU and a 2 x 2 max pool; the hidden
/// layers of the larger nets have dropout.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// A hidden layer of 64.
    MlpS,
    /// A hidden layer of 256.
    MlpM,
    /// Hidden layers of 512 and 256, dropout 0.1.
    MlpL,
    /// Convolutions of 8 and 16 channels.
    ConvS,
    /// Convolutions of 16 and 32 channels, a hidden layer of 64.
    ConvM,
    /// Convolutions of 32 and 64 channels, a hidden layer of 128, dropout 0.1.
    ConvL,
}

/// Why a net cannot be built.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum ArchitectureError {
    /// No net has this name.
    #[error("no model {0:?}: choose mlp-s, mlp-m, mlp-l, conv-s, conv-m or conv-l")]
    Unknown(String),
    /// A net of convolutions needs images.
    #[error(
        "model {model} needs images of at least 4 x 4, samples have shape {shape:?}: choose an mlp"
    )]
    NoImages {
        /// Which net.
        model: Architecture,
        /// Shape of a sample.
        shape: Vec<u32>,
    },
    /// Fewer than two classes, or samples of no values.
    #[error("no model for samples of shape {shape:?} and {classes} classes")]
    Empty {
        /// Shape of a sample.
        shape: Vec<u32>,
        /// Number of classes.
        classes: usize,
    },
}

impl Architecture {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 6] = [
        ("mlp-s", Self::MlpS),
        ("mlp-m", Self::MlpM),
        ("mlp-l", Self::MlpL),
        ("conv-s", Self::ConvS),
        ("conv-m", Self::ConvM),
        ("conv-l", Self::ConvL),
    ];

    /// The net for samples of `shape` (`[channels, height, width]` for images), its parameters
    /// drawn under `seed`.
    ///
    /// # Errors
    /// Convolutions over what is no image; no values or fewer than two classes.
    pub fn build(self, shape: &[u32], classes: usize, seed: u64) -> Result<Net, ArchitectureError> {
        let width = shape.iter().map(|&side| side as usize).product();
        if width == 0 || classes < 2 {
            return Err(ArchitectureError::Empty {
                shape: shape.to_owned(),
                classes,
            });
        }
        let mut stack = Stack {
            layers: Vec::new(),
            width,
        };
        match self {
            Self::MlpS => stack.hidden(64, 0.0),
            Self::MlpM => stack.hidden(256, 0.0),
            Self::MlpL => {
                stack.hidden(512, 0.1);
                stack.hidden(256, 0.1);
            }
            Self::ConvS | Self::ConvM | Self::ConvL => {
                let &[channels, height, width] = shape else {
                    return Err(self.no_images(shape));
                };
                if height.min(width) < 4 {
                    return Err(self.no_images(shape));
                }
                let [channels, height, width] = [channels, height, width].map(|n| n as usize);
                match self {
                    Self::ConvS => stack.convolutions(channels, height, width, [8, 16]),
                    Self::ConvM => {
                        stack.convolutions(channels, height, width, [16, 32]);
                        stack.hidden(64, 0.0);
                    }
                    _ => {
                        stack.convolutions(channels, height, width, [32, 64]);
                        stack.hidden(128, 0.1);
                    }
                }
            }
        }
        stack.push(Linear::new(stack.width, classes));
        let mut rng = seed::stream(seed, "parameters");
        Ok(Net::new(shape.to_owned(), stack.layers, &mut rng))
    }

    fn no_images(self, shape: &[u32]) -> ArchitectureError {
        ArchitectureError::NoImages {
            model: self,
            shape: shape.to_owned(),
        }
    }
}

struct Stack {
    layers: Vec<Box<dyn Layer>>,
    width: usize,
}

impl Stack {
    fn push(&mut self, layer: impl Layer + 'static) {
        self.width = layer.output();
        self.layers.push(Box::new(layer));
    }

    fn hidden(&mut self, units: usize, dropout: f32) {
        self.push(Linear::new(self.width, units));
        self.push(Relu(units));
        if dropout > 0.0 {
            self.push(Dropout::new(units, dropout));
        }
    }

    fn convolutions(&mut self, channels: usize, height: usize, width: usize, outputs: [usize; 2]) {
        let (mut inputs, mut height, mut width) = (channels, height, width);
        for outputs in outputs {
            self.push(Conv::new(inputs, outputs, 3, height, width));
            self.push(GroupNorm::new(outputs / 4, outputs, height * width));
            self.push(Relu(outputs * height * width));
            self.push(MaxPool::new(outputs, height, width));
            (inputs, height, width) = (outputs, height / 2, width / 2);
        }
    }
}

impl FromStr for Architecture {
    type Err = ArchitectureError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, architecture)| *architecture)
            .ok_or_else(|| ArchitectureError::Unknown(name.to_owned()))
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = Self::ALL.iter().find(|(_, known)| known == self);
        f.write_str(found.map_or("", |(name, _)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;

    #[test]
    fn sizes_are_those_that_the_table_says() {
        let sizes = Architecture::ALL.map(|(name, architecture)| {
            assert_eq!(name.parse(), Ok(architecture));
            assert_eq!(architecture.to_string(), name);
            let net = architecture.build(&[1, 28, 28], 10, 0).unwrap();
            assert_eq!(net.classes(), 10);
            net.weights().len()
        });
        assert_eq!(sizes, [50_890, 203_530, 535_818, 9_146, 105_962, 421_834]);
    }

    #[test]
    fn what_fits_no_net_is_refused() {
        assert!(Architecture::ConvS.build(&[561], 6, 0).is_err());
        assert!(Architecture::ConvS.build(&[1, 3, 28], 6, 0).is_err());
        assert!(Architecture::MlpS.build(&[561], 1, 0).is_err());
        assert!(Architecture::MlpS.build(&[], 3, 0).is_ok());
        assert!(Architecture::MlpS.build(&[0], 3, 0).is_err());
        assert!("resnet".parse::<Architecture>().is_err());
    }

    #[test]
    fn a_seed_gives_the_same_parameters() {
        let weights = |seed| {
            Architecture::ConvM
                .build(&[3, 9, 8], 4, seed)
                .unwrap()
                .weights()
                .to_vec()
        };
        assert_eq!(weights(1), weights(1));
        assert_ne!(weights(1), weights(2));
    }
}
