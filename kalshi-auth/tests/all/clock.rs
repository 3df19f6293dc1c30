use std::{sync::Arc, time::Duration};

use kalshi_auth::{Clock, ClockOffset, ManualClock, OffsetClock, SystemClock, UnixMillis};

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

#[test]
fn an_offset_is_counted_from_the_machine_however_often_it_is_set() {
    let machine = Arc::new(ManualClock::at(UnixMillis::from_millis(10_000)));
    let clock = Arc::new(OffsetClock::new(machine.clone()));
    let exchange = UnixMillis::from_millis(72_500);
    for _ in 0..3 {
        clock.set_offset(ClockOffset::between(clock.uncorrected(), exchange));
        assert_eq!((clock.now(), clock.uncorrected().as_millis()), (exchange, 10_000));
    }
    assert_eq!(clock.offset().to_string(), "+62500 ms");
    assert_eq!(ClockOffset::between(exchange, machine.now()).to_string(), "-62500 ms");
    assert_eq!(ClockOffset::from_millis(i64::MIN).abs(), Duration::from_millis(1 << 63));
    clock.set_offset(ClockOffset::from_millis(i64::MAX));
    assert_eq!(clock.now().as_millis(), i64::MAX);
}
