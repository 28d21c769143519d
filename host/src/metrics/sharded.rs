//! Metrics of what happens with every event. Each thread counts for itself, and they are added up when
//! somebody looks: one number for all would travel between the cores' caches at every event.

use crate::core::shards::Shards;
use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric, counter::Atomic},
};
use std::{
    array,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// The number of a counter.
#[derive(Debug)]
pub struct Number(Shards<AtomicU64>);

impl Default for Number {
    fn default() -> Self {
        Self(Shards::at_most(usize::MAX))
    }
}

impl Atomic<u64> for Number {
    fn inc(&self) -> u64 {
        self.inc_by(1)
    }

    /// What is returned is this thread's part of the number before.
    fn inc_by(&self, more: u64) -> u64 {
        self.0.own().fetch_add(more, Ordering::Relaxed)
    }

    fn get(&self) -> u64 {
        self.0
            .own_first()
            .map(|part| part.load(Ordering::Relaxed))
            .sum()
    }
}

/// Buckets with a bound; one more is for all that is above.
const BOUNDED: usize = 11;

#[derive(Debug, Default)]
struct Observed {
    nanoseconds: AtomicU64,
    buckets: [AtomicU64; BOUNDED + 1],
}

/// How long something took: a histogram in seconds, whose bounds grow by a factor of four.
#[derive(Debug, Clone)]
pub struct Durations {
    shortest: Duration,
    parts: Arc<Shards<Observed>>,
}

impl Durations {
    /// Returns a histogram that is empty.
    #[must_use]
    pub fn from_shortest(shortest: Duration) -> Self {
        Self {
            shortest,
            parts: Arc::new(Shards::at_most(usize::MAX)),
        }
    }

    /// In nanoseconds.
    fn bounds(&self) -> impl Iterator<Item = u64> {
        let shortest = in_nanoseconds(self.shortest);
        std::iter::successors(Some(shortest), |bound| Some(bound.saturating_mul(4))).take(BOUNDED)
    }

    /// Takes note of one.
    pub fn observe(&self, took: Duration) {
        let nanoseconds = in_nanoseconds(took);
        let bucket = self
            .bounds()
            .take_while(|bound| nanoseconds > *bound)
            .count();
        let own = self.parts.own();
        if let Some(bucket) = own.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        own.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Returns the sum of all, and how many fell into each bucket.
    fn total(&self) -> (Duration, [u64; BOUNDED + 1]) {
        let sum = |of: &dyn Fn(&Observed) -> u64| self.parts.own_first().map(of).sum::<u64>();
        let nanoseconds = sum(&|part| part.nanoseconds.load(Ordering::Relaxed));
        let buckets = array::from_fn(|place| {
            sum(&|part| {
                part.buckets
                    .get(place)
                    .map_or(0, |bucket| bucket.load(Ordering::Relaxed))
            })
        });
        (Duration::from_nanos(nanoseconds), buckets)
    }
}

fn in_nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (sum, buckets) = self.total();
        let bounds = self
            .bounds()
            .map(|bound| Duration::from_nanos(bound).as_secs_f64())
            .chain([f64::MAX]);
        let bounded: Vec<_> = bounds.zip(buckets).collect();
        let count = buckets.iter().sum();
        encoder.encode_histogram::<NoLabelSet>(sum.as_secs_f64(), count, &bounded, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::{
        encoding::text::encode, metrics::counter::Counter, registry::Registry,
    };

    #[test]
    fn what_several_threads_counted_is_rendered_as_one() {
        let mut registry = Registry::default();
        let durations = Durations::from_shortest(Duration::from_millis(1));
        let counter = Counter::<u64, Number>::default();
        registry.register("took", "How long", durations.clone());
        registry.register("times", "How often", counter.clone());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    counter.inc();
                    for milliseconds in [1, 3, 4, 5, 10_000_000] {
                        durations.observe(Duration::from_millis(milliseconds));
                    }
                });
            }
        });
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "took_sum 40000.052",
            "took_count 20",
            r#"took_bucket{le="0.001"} 4"#,
            r#"took_bucket{le="0.004"} 12"#,
            r#"took_bucket{le="0.016"} 16"#,
            r#"took_bucket{le="1048.576"} 16"#,
            r#"took_bucket{le="+Inf"} 20"#,
            "times_total 4",
        ] {
            assert!(
                text.lines().any(|known| known == line),
                "{line} in:\n{text}"
            );
        }
    }
}
