//! A process of its own: children that others make by other means would have its ports.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::{waitpid, WaitOptions};
use sys::executing::{self, Execution};

/// Of children that are executed all the time, some have a port that is closed, if nobody waits for them.
#[test]
fn a_port_is_free_once_it_is_closed_though_children_are_executed_all_the_time() {
    let null = File::options().read(true).write(true).open("/dev/null").unwrap();
    let execute = || {
        let executed = Execution {
            file: executing::File::At(c"/bin/true"),
            args: &[c"true".to_owned()],
            env: &[],
            stdio: [null.as_fd(); 3],
            directory: None,
            is_group_leader: false,
        }
        .spawn()
        .unwrap();
        waitpid(Some(executed.pid), WaitOptions::empty()).unwrap();
    };
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    execute();
                }
            });
        }
        let taken = (0..10_000)
            .filter(|_| {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                let address = listener.local_addr().unwrap();
                drop(listener);
                executing::wait_for_children();
                TcpListener::bind(address).is_err()
            })
            .count();
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(taken, 0);
    });
}
