use std::{sync::Arc, time::Duration};

use kalshi_auth::{Clock, ManualClock, SystemClock, UnixMillis};

#[test]
fn a_manual_clock_moves_when_it_is_set() {
    let clock = Arc::new(ManualClock::at(UnixMillis::from_millis(1_000)));
    let shared: Arc<dyn Clock> = clock.clone();
    clock.advance(Duration::from_millis(234));
    assert_eq!(shared.now().as_millis(), 1_234);
    clock.set(UnixMillis::from_millis(5));
    assert_eq!(shared.now().as_millis(), 5);
}

#[test]
fn a_manual_clock_stops_at_the_latest_time() {
    let clock = ManualClock::at(UnixMillis::from_millis(i64::MAX - 1));
    clock.advance(Duration::MAX);
    assert_eq!(clock.now().as_millis(), i64::MAX);
}

#[test]
fn the_system_clock_is_past_the_year_2025() {
    assert!(SystemClock.now() > UnixMillis::from_millis(1_735_689_600_000));
}
