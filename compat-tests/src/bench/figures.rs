//! Medians and percentiles.

/// The middle, and how far the rest lies from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Median {
    /// Half are below.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

/// Of any values; `None` of none.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<Median> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let (min, max) = (*values.first()?, *values.last()?);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    let lower = if values.len().is_multiple_of(2) { *values.get(middle - 1)? } else { upper };
    Some(Median { median: f64::midpoint(lower, upper), min, max })
}

/// The value that `percent` of a hundred do not exceed; `values` is sorted.
pub fn percentile(values: &[u64], percent: usize) -> Option<u64> {
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_odd_even_and_no_numbers() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(Median { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(Median { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(median([]), None);
    }

    #[test]
    fn the_median_of_a_hundred_is_the_fiftieth() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!([50, 99, 100].map(|p| percentile(&values, p)), [Some(50), Some(99), Some(100)]);
        assert_eq!(percentile(&[7], 50), Some(7));
        assert_eq!(percentile(&[], 50), None);
    }
}
