use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::layer::Layer;
use crate::{Net, Samples, zoo};

/// The nets that come along, for devices of different size and data of different kind.
///
/// Parameters and operations (floating-point, of a forward pass of one sample, two to a
/// multiplication and addition; training takes three times as many) are for the input that is named, with 10 classes:
///
/// | name | input | layers | parameters | operations |
/// |---|---|---|---|---|
/// | `mlp-s` | 1 x 28 x 28 | 64 | 50,890 | 0.10 M |
/// | `mlp-m` | 1 x 28 x 28 | 256 | 203,530 | 0.41 M |
/// | `mlp-l` | 1 x 28 x 28 | 512, 256, dropout 0.1 | 535,818 | 1.07 M |
/// | `conv-s` | 1 x 28 x 28 | 3 x 3 convolutions of 8 and 16 channels | 9,146 | 0.58 M |
/// | `conv-m` | 1 x 28 x 28 | 3 x 3 convolutions of 16 and 32 channels, 64 | 105,962 | 2.23 M |
/// | `conv-l` | 1 x 28 x 28 | 3 x 3 convolutions of 32 and 64 channels, 128, dropout 0.1 | 421,834 | 8.48 M |
/// | `fedavg-cnn` | 1 x 28 x 28 | 5 x 5 convolutions of 32 and 64 channels, 512 (McMahan et al. 2017) | 1,663,370 | 24.55 M |
/// | `resnet-8` | 3 x 32 x 32 | 3 stages of 16, 32 and 64 channels, a residual block each (He et al. 2016) | 78,042 | 25.00 M |
/// | `resnet-20` | 3 x 32 x 32 | the same with three blocks each | 272,474 | 81.63 M |
/// | `mobilenet-v2` | 3 x 32 x 32 | inverted residuals with depthwise convolutions (Sandler et al. 2018), at half its width | 590,410 | 14.84 M |
/// | `sensor-conv` | 6 x 100 | convolutions over time of 32, 64 and 64 channels, mean over time | 32,810 | 1.14 M |
/// | `tinybert-4` | 64 | BERT of four layers, 312 wide, for ids of tokens (Jiao et al. 2020) | 14,353,378 | 603.39 M |
///
/// In `conv-*` a convolution is followed by group normalisation, ReLU and a 2 x 2 max pool; ResNets and
/// MobileNet have batch normalisation.
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
    /// The CNN of the paper that federated averaging comes from.
    FedavgCnn,
    /// A residual net of 8 layers.
    #[serde(rename = "resnet-8")]
    Resnet8,
    /// A residual net of 20 layers.
    #[serde(rename = "resnet-20")]
    Resnet20,
    /// A narrow MobileNetV2 for small images.
    #[serde(rename = "mobilenet-v2")]
    MobilenetV2,
    /// Convolutions over time, for windows of sensor values.
    SensorConv,
    /// A small BERT, for texts as ids of tokens.
    #[serde(rename = "tinybert-4")]
    TinyBert4,
}

/// Why a net cannot be built.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum ArchitectureError {
    /// No net has this name.
    #[error("no model {0:?}: choose one of {names}", names = Architecture::names())]
    Unknown(String),
    /// A net that needs samples of another kind.
    #[error(
        "model {model} needs {needs}, samples have shape {shape:?}: choose another, such as mlp-s"
    )]
    Unfit {
        /// Which net.
        model: Architecture,
        /// What it takes.
        needs: &'static str,
        /// Shape of a sample.
        shape: Vec<u32>,
    },
    /// Fewer than two classes, or samples of no values or more than [`Samples::MOST_VALUES`].
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
    pub const ALL: [(&'static str, Self); 12] = [
        ("mlp-s", Self::MlpS),
        ("mlp-m", Self::MlpM),
        ("mlp-l", Self::MlpL),
        ("conv-s", Self::ConvS),
        ("conv-m", Self::ConvM),
        ("conv-l", Self::ConvL),
        ("fedavg-cnn", Self::FedavgCnn),
        ("resnet-8", Self::Resnet8),
        ("resnet-20", Self::Resnet20),
        ("mobilenet-v2", Self::MobilenetV2),
        ("sensor-conv", Self::SensorConv),
        ("tinybert-4", Self::TinyBert4),
    ];

    /// All names, as one line.
    pub fn names() -> String {
        Self::ALL.map(|(name, _)| name).join(", ")
    }

    /// The net for samples of `shape` (`[channels, height, width]` for images, `[channels, length]`
    /// for windows of sensor values, `[length]` for texts), its parameters drawn under `seed`.
    ///
    /// # Errors
    /// Samples that the net is not for; no values, or more than [`Samples::MOST_VALUES`]; fewer than two
    /// classes.
    pub fn build(self, shape: &[u32], classes: usize, seed: u64) -> Result<Net, ArchitectureError> {
        let layers = self.layers(shape, classes)?;
        let mut rng = Net::stream(seed);
        Ok(Net::new(shape.to_owned(), layers, &mut rng))
    }

    /// Values that files of such a net have, without making room for them.
    pub(crate) fn values(self, shape: &[u32], classes: usize) -> Result<u64, ArchitectureError> {
        let layers = self.layers(shape, classes)?;
        let tensors = layers
            .iter()
            .flat_map(|layer| layer.tensors().into_iter().chain(layer.gathered()));
        Ok(tensors.map(|tensor| tensor.len() as u64).sum())
    }

    fn layers(
        self,
        shape: &[u32],
        classes: usize,
    ) -> Result<Vec<Box<dyn Layer>>, ArchitectureError> {
        let width = Samples::values(shape).unwrap_or(0);
        if width == 0 || classes < 2 {
            return Err(ArchitectureError::Empty {
                shape: shape.to_owned(),
                classes,
            });
        }
        let unfit = |needs| ArchitectureError::Unfit {
            model: self,
            needs,
            shape: shape.to_owned(),
        };
        let image = |least: usize, needs| match shape {
            &[channels, height, width] if height.min(width) as usize >= least => {
                Ok([channels, height, width].map(|side| side as usize))
            }
            _ => Err(unfit(needs)),
        };
        const SMALL: &str = "images of at least 4 x 4";
        Ok(match self {
            Self::MlpS => zoo::mlp(width, &[64], 0.0, classes),
            Self::MlpM => zoo::mlp(width, &[256], 0.0, classes),
            Self::MlpL => zoo::mlp(width, &[512, 256], 0.1, classes),
            Self::ConvS => zoo::conv(image(4, SMALL)?, [8, 16], None, classes),
            Self::ConvM => zoo::conv(image(4, SMALL)?, [16, 32], Some((64, 0.0)), classes),
            Self::ConvL => zoo::conv(image(4, SMALL)?, [32, 64], Some((128, 0.1)), classes),
            Self::FedavgCnn => zoo::fedavg_cnn(image(4, SMALL)?, classes),
            Self::Resnet8 => zoo::resnet(image(1, "images")?, 1, classes),
            Self::Resnet20 => zoo::resnet(image(1, "images")?, 3, classes),
            Self::MobilenetV2 => zoo::mobilenet(image(1, "images")?, classes),
            Self::SensorConv => match shape {
                &[channels, length] if length >= 8 => {
                    zoo::sensor_conv([channels, length].map(|side| side as usize), classes)
                }
                _ => return Err(unfit("windows of at least 8 values a channel")),
            },
            Self::TinyBert4 => match shape {
                &[length] if length as usize <= zoo::POSITIONS => {
                    zoo::tinybert(length as usize, classes)
                }
                _ => return Err(unfit("token ids, 1 to 512")),
            },
        })
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
        for (name, architecture) in Architecture::ALL {
            assert_eq!(name.parse(), Ok(architecture));
            assert_eq!(architecture.to_string(), name);
            let quoted = serde_json::to_string(&architecture).unwrap();
            assert_eq!(quoted, format!("{name:?}"));
        }
        let text = include_str!("architecture.rs");
        let rows = text.lines().filter_map(|line| line.strip_prefix("/// | `"));
        let mut seen = 0;
        for row in rows {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let [name, input, _, parameters, operations, ..] = cells[..] else {
                panic!("{row}")
            };
            let architecture: Architecture = name.trim_end_matches('`').parse().unwrap();
            let shape: Vec<u32> = input
                .split(" x ")
                .map(|side| side.parse().unwrap())
                .collect();
            let net = architecture.build(&shape, 10, 0).unwrap();
            assert_eq!(net.classes(), 10);
            let count = parameters.replace(',', "").parse();
            assert_eq!(Ok(net.trainable()), count, "{name}");
            let millions = format!("{:.2} M", net.operations() as f64 / 1e6);
            assert_eq!(millions, operations, "{name}");
            seen += 1;
        }
        assert_eq!(seen, Architecture::ALL.len());
    }

    #[test]
    fn what_fits_no_net_is_refused() {
        assert!(Architecture::ConvS.build(&[561], 6, 0).is_err());
        assert!(Architecture::ConvS.build(&[1, 3, 28], 6, 0).is_err());
        assert!(Architecture::MlpS.build(&[561], 1, 0).is_err());
        assert!(Architecture::MlpS.build(&[], 3, 0).is_ok());
        assert!(Architecture::MlpS.build(&[0], 3, 0).is_err());
        assert!(Architecture::MlpS.build(&[u32::MAX; 3], 3, 0).is_err());
        assert!(Architecture::SensorConv.build(&[6, 7], 5, 0).is_err());
        assert!(Architecture::TinyBert4.build(&[513], 2, 0).is_err());
        assert!(Architecture::TinyBert4.build(&[1, 64], 2, 0).is_err());
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
