//! What a handful of samples says: its middle, and how far it can be trusted. No distribution is assumed.

use std::ops::Mul;

/// The middle of some samples and how far they lie around it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Estimate {
    /// Half of the samples lie below, half above.
    pub(super) median: f64,
    /// Half of the distance that the middle half of the samples spans. For ten samples this is also about how far the median
    /// itself may be off.
    pub(super) spread: f64,
}

impl Estimate {
    /// Of at least one sample; `None` without any.
    pub(super) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let spread = (quantile(&sorted, 0.75)? - quantile(&sorted, 0.25)?) / 2.0;
        Some(Self { median: quantile(&sorted, 0.5)?, spread })
    }

    /// Of the ratios of samples to those taken right beside them: what drifts over a run is in both, and falls out.
    pub(super) fn of_ratios(samples: &[f64], beside: &[f64]) -> Option<Self> {
        let ratios: Vec<_> = samples.iter().zip(beside).map(|(sample, beside)| sample / beside).collect();
        Self::of(&ratios)
    }
}

impl Mul<f64> for Estimate {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        Self { median: self.median * factor, spread: self.spread * factor }
    }
}

/// The value below which that part of the samples lies, between two samples by their distance.
pub(super) fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let at = part * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(below + (above - below) * at.fract())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_lies_between_the_two() {
        let median = |samples: &[f64]| Estimate::of(samples).unwrap().median;
        assert_eq!(median(&[7.0]), 7.0);
        assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), 3.0);
        assert_eq!(Estimate::of(&[]), None);
    }

    #[test]
    fn the_spread_leaves_out_the_outer_quarters() {
        let spread = |samples: &[f64]| Estimate::of(samples).unwrap().spread;
        assert_eq!(spread(&[7.0]), 0.0);
        assert_eq!(spread(&[3.0; 9]), 0.0);
        assert_eq!(spread(&[1.0, 2.0, 3.0, 4.0, 1000.0]), 1.0);
    }

    #[test]
    fn ratios_are_of_neighbours_so_that_drift_falls_out() {
        let drifting = [10.0, 20.0, 40.0];
        let half = drifting.map(|sample| sample / 2.0);
        assert_eq!(Estimate::of_ratios(&half, &drifting), Some(Estimate { median: 0.5, spread: 0.0 }));
    }
}
