use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use kalshi_auth::{AuthErrorKind, Clock, ManualClock, SystemClock, Timestamp};

#[test]
fn a_timestamp_prints_as_it_was_read() {
    for text in ["0", "1", "1703123456789", "18446744073709551615"] {
        assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
    }
}

#[test]
fn a_timestamp_that_would_print_differently_is_refused() {
    for text in ["", "00", "01", "+1", "-1", " 1", "1 ", "1.0", "1e3", "18446744073709551616", "१"]
    {
        let error = text.parse::<Timestamp>().unwrap_err();
        assert_eq!(error.kind(), AuthErrorKind::InvalidRequest, "{text:?}");
    }
}

#[test]
fn a_time_before_1970_is_1970() {
    let time = UNIX_EPOCH - Duration::from_secs(1);
    assert_eq!(Timestamp::from(time), Timestamp::from_millis(0));
}

#[test]
fn a_manual_clock_moves_when_told() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000)));
    let shared: Arc<dyn Clock> = clock.clone();
    clock.advance(Duration::from_millis(234));
    assert_eq!(shared.now().as_millis(), 1_234);
    clock.set(Timestamp::from_millis(5));
    assert_eq!(shared.now().as_millis(), 5);
}

#[test]
fn the_system_clock_is_past_the_year_2025() {
    assert!(SystemClock.now() > Timestamp::from_millis(1_735_689_600_000));
}

#[test]
fn the_difference_of_two_times_has_no_sign() {
    let (a, b) = (Timestamp::from_millis(10), Timestamp::from_millis(25));
    assert_eq!(a.abs_diff(b), Duration::from_millis(15));
    assert_eq!(b.abs_diff(a), Duration::from_millis(15));
}
