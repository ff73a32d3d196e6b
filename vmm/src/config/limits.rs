//! The limits of a disk, as a person gives them.

use std::num::NonZeroU64;

use cafevm_devices::block::{Limits, Rate};

/// Why limits are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// A burst of something that has no limit.
    #[error("{0}-burst needs {0}, the limit itself; give both, or leave {0}-burst out")]
    OnlyBurst(&'static str),
    /// A burst of nothing.
    #[error("{0}-burst is 0, so that nothing could begin; give at least 1, or leave it out")]
    NoBurst(&'static str),
}

/// The numbers for one resource: a limit of 0 or none limits nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Given {
    pub(crate) per_second: Option<u64>,
    pub(crate) burst: Option<u64>,
}

impl Given {
    fn rate(self, name: &'static str) -> Result<Option<Rate>, LimitsError> {
        let Some(per_second) = self.per_second.and_then(NonZeroU64::new) else {
            return if self.burst.is_some() { Err(LimitsError::OnlyBurst(name)) } else { Ok(None) };
        };
        let usual = Rate::new(per_second);
        let burst = self.burst.map_or(Ok(usual.burst), |burst| {
            NonZeroU64::new(burst).ok_or(LimitsError::NoBurst(name))
        });
        Ok(Some(Rate { burst: burst?, ..usual }))
    }
}

/// The limits that these numbers mean.
///
/// # Errors
///
/// If a burst is 0, or has no limit.
pub(crate) fn limits(bytes: Given, requests: Given) -> Result<Limits, LimitsError> {
    Ok(Limits { bytes: bytes.rate("bps")?, requests: requests.rate("iops")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_a_tenth_of_a_second_unless_it_is_given() {
        let given = |per_second, burst| Given { per_second, burst };
        let none = Given::default();
        let rate = |per_second, burst| {
            let number = |n| NonZeroU64::new(n).unwrap();
            Some(Rate { per_second: number(per_second), burst: number(burst) })
        };
        let of = |bytes, requests| limits(bytes, requests).map(|l| (l.bytes, l.requests));
        assert_eq!(of(none, none), Ok((None, None)));
        assert_eq!(of(given(Some(1000), None), none), Ok((rate(1000, 100), None)));
        assert_eq!(of(none, given(Some(5), None)), Ok((None, rate(5, 1))));
        assert_eq!(of(given(Some(0), None), given(Some(7), Some(70))), Ok((None, rate(7, 70))));
        for without in [None, Some(0)] {
            let error = of(given(without, Some(1)), none);
            assert_eq!(error, Err(LimitsError::OnlyBurst("bps")));
        }
        assert_eq!(of(none, given(Some(7), Some(0))), Err(LimitsError::NoBurst("iops")));
    }
}
