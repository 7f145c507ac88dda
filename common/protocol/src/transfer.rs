use crate::ProtocolError;

/// The values of samples, one after the other, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Elements {
    /// Bytes, 0 to 255: pixels.
    U8(Vec<u8>),
    /// Numbers, as they are.
    F32(Vec<f32>),
}

impl Elements {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The public samples that every plan speaks about; it has no labels.
///
/// Packed: format (1), element type (0 u8, 1 f32), number of dimensions, a zero byte, samples as u32
/// little-endian, each dimension as u32 little-endian, then the values, little-endian.
#[derive(Clone, Debug, PartialEq)]
pub struct TransferSet {
    shape: Vec<u32>,
    samples: u32,
    elements: Elements,
}

impl TransferSet {
    /// The most bytes that a packed transfer set may have: 1 GiB.
    pub const MAX_BYTES: u64 = 1 << 30;
    /// The most dimensions of a sample.
    pub const MAX_DIMENSIONS: usize = 8;
    const FORMAT: u8 = 1;

    /// A transfer set of samples of `shape` each, outermost dimension first.
    ///
    /// # Errors
    /// No dimension or too many, elements that are no whole number of samples, more than
    /// [`Self::MAX_BYTES`], or a value that is not finite.
    pub fn new(shape: Vec<u32>, elements: Elements) -> Result<Self, ProtocolError> {
        let malformed = |why: String| ProtocolError::Malformed {
            what: "transfer set",
            why,
        };
        if shape.is_empty() || shape.len() > Self::MAX_DIMENSIONS {
            return Err(malformed(format!("{} dimensions", shape.len())));
        }
        let width = shape
            .iter()
            .try_fold(1u64, |width, &side| width.checked_mul(side.into()))
            .filter(|width| (1..=Self::MAX_BYTES).contains(width))
            .ok_or_else(|| malformed(format!("shape {shape:?}")))?;
        let count = elements.len() as u64 / width;
        if count * width != elements.len() as u64 || count == 0 {
            let length = elements.len();
            return Err(malformed(format!("{length} values of shape {shape:?}")));
        }
        if let Elements::F32(values) = &elements
            && let Some(at) = values.iter().position(|value| !value.is_finite())
        {
            return Err(ProtocolError::NotFinite {
                row: (at as u64 / width) as usize,
                column: (at as u64 % width) as usize,
            });
        }
        let set = Self {
            samples: count as u32,
            shape,
            elements,
        };
        match set.packed_bytes() {
            bytes if bytes > Self::MAX_BYTES => Err(ProtocolError::TooLong {
                what: "transfer set",
                actual: bytes,
                limit: Self::MAX_BYTES,
            }),
            _ => Ok(set),
        }
    }

    /// Shape of a sample, outermost dimension first.
    pub fn shape(&self) -> &[u32] {
        &self.shape
    }

    /// Number of samples, at least 1.
    pub fn samples(&self) -> u32 {
        self.samples
    }

    /// Shape of a sample and all values.
    pub fn into_parts(self) -> (Vec<u32>, Elements) {
        (self.shape, self.elements)
    }

    /// The bytes that travel.
    pub fn pack(&self) -> Vec<u8> {
        let element = match self.elements {
            Elements::U8(_) => 0,
            Elements::F32(_) => 1,
        };
        let mut bytes = vec![Self::FORMAT, element, self.shape.len() as u8, 0];
        bytes.extend(self.samples.to_le_bytes());
        bytes.extend(self.shape.iter().flat_map(|side| side.to_le_bytes()));
        match &self.elements {
            Elements::U8(values) => bytes.extend(values),
            Elements::F32(values) => bytes.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        }
        bytes
    }

    /// The set that `bytes` hold.
    ///
    /// # Errors
    /// An unknown format, a length that does not follow from the header, or what [`Self::new`]
    /// refuses. Lengths are checked before anything is allocated.
    pub fn unpack(bytes: &[u8]) -> Result<Self, ProtocolError> {
        let malformed = |why: &str| ProtocolError::Malformed {
            what: "transfer set",
            why: why.to_owned(),
        };
        let short = || malformed("shorter than its header");
        let (&[format, element, dimensions, zero], rest) =
            bytes.split_first_chunk::<4>().ok_or_else(short)?;
        if format != Self::FORMAT || zero != 0 {
            return Err(malformed("unknown format: update this side"));
        }
        if dimensions as usize > Self::MAX_DIMENSIONS {
            return Err(malformed("too many dimensions"));
        }
        let (&samples, mut rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let samples = u32::from_le_bytes(samples);
        let mut shape = Vec::with_capacity(dimensions.into());
        for _ in 0..dimensions {
            let (&side, after) = rest.split_first_chunk::<4>().ok_or_else(short)?;
            shape.push(u32::from_le_bytes(side));
            rest = after;
        }
        let size = match element {
            0 => 1,
            1 => 4,
            _ => return Err(malformed("unknown type of elements")),
        };
        let expected = shape
            .iter()
            .try_fold(size * u64::from(samples), |n, &side| {
                n.checked_mul(side.into())
            });
        if expected != Some(rest.len() as u64) {
            return Err(ProtocolError::WrongLength {
                what: "transfer set's values",
                actual: rest.len() as u64,
                expected: expected.unwrap_or(u64::MAX),
            });
        }
        let elements = match size {
            1 => Elements::U8(rest.to_vec()),
            _ => Elements::F32(
                rest.as_chunks::<4>()
                    .0
                    .iter()
                    .map(|b| f32::from_le_bytes(*b))
                    .collect(),
            ),
        };
        Self::new(shape, elements)
    }

    fn packed_bytes(&self) -> u64 {
        let size = match self.elements {
            Elements::U8(_) => 1,
            Elements::F32(_) => 4,
        };
        8 + 4 * self.shape.len() as u64 + size * self.elements.len() as u64
    }
}
