use fedistill_protocol::{Answers, ProtocolError, Rows};

/// Labelled samples that lie unmarked in the transfer set, for a method to measure by what clients
/// and teacher are worth. Neither may have been trained on them: clients never hear their labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Probes {
    /// Which transfer samples.
    pub rows: Rows,
    /// The class of each.
    labels: Vec<u32>,
    /// Logits on each of teachers that have not seen it, where the teacher itself has.
    teacher: Option<Answers>,
}

impl Probes {
    /// Labelled samples at these rows of the transfer set; `teacher` has a row for each, where what
    /// the teacher itself says of them cannot be used.
    ///
    /// # Errors
    /// Not as many labels, or rows of the teacher, as samples.
    pub fn new(
        rows: Rows,
        labels: Vec<u32>,
        teacher: Option<Answers>,
    ) -> Result<Self, ProtocolError> {
        let expected = rows.count();
        let counts = [
            Some(labels.len() as u32),
            teacher.as_ref().map(Answers::rows),
        ];
        match counts
            .into_iter()
            .flatten()
            .find(|count| *count != expected)
        {
            None => Ok(Self {
                rows,
                labels,
                teacher,
            }),
            Some(actual) => Err(ProtocolError::WrongLength {
                what: "labels or answers of labelled samples",
                actual: actual.into(),
                expected: expected.into(),
            }),
        }
    }

    /// The class of a transfer sample, and the teacher's logits where they are given; `None` where it
    /// is not one of these.
    pub fn of(&self, row: u32) -> Option<(u32, Option<&[f32]>)> {
        let place = self.place(row)?;
        let teacher = self.teacher.as_ref().and_then(|teacher| {
            let width = teacher.classes() as usize;
            teacher.values().get(place * width..(place + 1) * width)
        });
        Some((*self.labels.get(place)?, teacher))
    }

    fn place(&self, row: u32) -> Option<usize> {
        match &self.rows {
            Rows::List(rows) => rows.binary_search(&row).ok(),
            Rows::Range { start, count } => {
                let place = row.checked_sub(*start)?;
                (place < *count).then_some(place as usize)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use fedistill_protocol::AnswerKind;

    use super::*;

    #[test]
    fn probes_are_found_by_their_rows() {
        let teacher = Answers::new(AnswerKind::Logits, 2, vec![0.0, 1.0, 2.0, 3.0]).unwrap();
        let probes = Probes::new(Rows::of(vec![4, 9]), vec![1, 0], Some(teacher)).unwrap();
        assert_eq!(probes.of(9), Some((0, Some(&[2.0, 3.0][..]))));
        assert_eq!(probes.of(5), None);
        let probes = Probes::new(Rows::of(vec![4, 5]), vec![1, 0], None).unwrap();
        assert_eq!(probes.of(4), Some((1, None)));
        assert_eq!((probes.of(3), probes.of(6)), (None, None));
        assert!(Probes::new(Rows::of(vec![4, 5]), vec![1], None).is_err());
    }
}
