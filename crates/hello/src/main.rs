//! The smallest application: says hello to its log, then once a minute what time it is running for.

use std::time::Duration;

fn main() {
    println!("hello, world");
    for minutes in 1_u64.. {
        std::thread::sleep(Duration::from_secs(60));
        println!("hello for {minutes} min");
    }
}
