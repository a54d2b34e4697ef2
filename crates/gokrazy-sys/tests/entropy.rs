//! The request of `RNDADDENTROPY` against the C header of this machine, by the C compiler.

use std::io::Write;
use std::process::{Command, Stdio};

const PROGRAM: &str = r#"
#include <linux/random.h>
#include <stddef.h>
#include <stdio.h>

int main(void)
{
    printf("%u %zu %zu %zu %zu\n", (unsigned)RNDADDENTROPY, sizeof(struct rand_pool_info),
           offsetof(struct rand_pool_info, entropy_count), offsetof(struct rand_pool_info, buf_size),
           offsetof(struct rand_pool_info, buf));
    return 0;
}
"#;

#[test]
fn layout_is_the_headers() {
    let binary = std::env::temp_dir().join(format!("gokrazy-sys-entropy-{}", std::process::id()));
    let mut compiler = Command::new("cc")
        .args(["-x", "c", "-", "-o"])
        .arg(&binary)
        .stdin(Stdio::piped())
        .spawn()
        .expect("run cc; install it with: apt-get install -y gcc libc6-dev linux-libc-dev");
    compiler
        .stdin
        .take()
        .unwrap()
        .write_all(PROGRAM.as_bytes())
        .unwrap();
    let compiled = compiler.wait_with_output().unwrap();
    assert!(
        compiled.status.success(),
        "headers are missing? apt-get install -y libc6-dev linux-libc-dev"
    );
    let printed = Command::new(&binary).output().unwrap().stdout;
    std::fs::remove_file(&binary).unwrap();
    let printed = String::from_utf8(printed).unwrap();
    let numbers: Vec<u32> = printed
        .split_whitespace()
        .map(|number| number.parse().unwrap())
        .collect();
    assert_eq!(numbers, gokrazy_sys::entropy::LAYOUT);
}
