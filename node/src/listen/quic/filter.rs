//! The kernel program that brings a QUIC packet to the worker its connection ID names.
//!
//! What is here: seven instructions of classic BPF and the one system call that attaches them; it
//! needs no privilege. Who calls it: `bind`, once per UDP port. Without it the kernel picks a socket
//! by the client's address and port, and a client that changes its port loses its connection.
//! Deliberately not here: what an ID looks like, see `steering`.
//!
//! ```text
//! long header  (RFC 9000 17.2): flags 1 | version 4 | length 1 | destination ID ...   -> byte 6
//! short header (RFC 9000 17.3): flags 1 | destination ID ...                          -> byte 1
//! ```
//!
//! The first packets of a client carry an ID it made up: they go where that byte falls, all to the
//! same worker, which answers with an ID of its own.

#![allow(
    unsafe_code,
    reason = "SO_ATTACH_REUSEPORT_CBPF has no safe binding; the call below is the only one"
)]

use std::io;
use std::mem::size_of_val;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;

use libc::{
    BPF_A, BPF_ABS, BPF_ALU, BPF_B, BPF_JA, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_MOD, BPF_RET,
    sock_filter, sock_fprog,
};

/// Attaches the program to the `SO_REUSEPORT` group of `workers`, which are in worker order.
pub(in crate::listen) fn steer_by_connection_id(workers: &[UdpSocket]) -> io::Result<()> {
    let [first, _, ..] = workers else {
        return Ok(());
    };
    let workers = u32::try_from(workers.len()).expect("at most 256 workers are bound");
    let mut program = program(workers);
    let argument = sock_fprog {
        len: u16::try_from(program.len()).expect("the program has seven instructions"),
        filter: program.as_mut_ptr(),
    };
    let argument_bytes = libc::socklen_t::try_from(size_of_val(&argument))
        .expect("the argument is a length and a pointer");
    // SAFETY: the descriptor is open for as long as `first` is borrowed. `argument` is the struct
    // this option reads (socket(7)), its length is given, and the pointer in it is to `program`,
    // which lives until after the call; the kernel copies the instructions and keeps no pointer.
    let result = unsafe {
        libc::setsockopt(
            first.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const argument).cast(),
            argument_bytes,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Returns the number of the worker's socket: the first byte of the destination ID, modulo workers.
///
/// A packet too short to have one ends the program at the load, with 0.
fn program(workers: u32) -> [sock_filter; 7] {
    let load_byte = |offset| instruction(BPF_LD | BPF_B | BPF_ABS, 0, 0, offset);
    [
        load_byte(0),
        instruction(BPF_JMP | BPF_JSET | BPF_K, 0, 2, LONG_HEADER_BIT),
        load_byte(LONG_HEADER_ID_OFFSET),
        instruction(BPF_JMP | BPF_JA, 0, 0, 1),
        load_byte(SHORT_HEADER_ID_OFFSET),
        instruction(BPF_ALU | BPF_MOD | BPF_K, 0, 0, workers),
        instruction(BPF_RET | BPF_A, 0, 0, 0),
    ]
}

fn instruction(code: u32, if_true: u8, if_false: u8, k: u32) -> sock_filter {
    sock_filter {
        code: u16::try_from(code).expect("instruction codes have 16 bits"),
        jt: if_true,
        jf: if_false,
        k,
    }
}

const LONG_HEADER_BIT: u32 = 0x80;
const LONG_HEADER_ID_OFFSET: u32 = 6;
const SHORT_HEADER_ID_OFFSET: u32 = 1;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn group(workers: usize) -> Vec<UdpSocket> {
        use socket2::{Domain, Socket, Type};
        let mut address: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        let group = (0..workers).map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.bind(&address.into()).unwrap();
            let socket = UdpSocket::from(socket);
            address = socket.local_addr().unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            socket
        });
        group.collect()
    }

    #[test]
    fn packets_go_where_their_connection_id_says_whatever_port_they_come_from() {
        let workers = group(4);
        steer_by_connection_id(&workers).unwrap();
        let address = workers[0].local_addr().unwrap();
        for (byte, worker) in [(0u8, 0usize), (1, 1), (2, 2), (3, 3), (6, 2), (255, 3)] {
            let short = [0x40, byte, 9, 9, 9, 9, 9, 9, 9, 9];
            let long = [0xc0, 0, 0, 0, 1, 8, byte, 9, 9, 9];
            for packet in [short, long] {
                let client = UdpSocket::bind("127.0.0.1:0").unwrap();
                client.send_to(&packet, address).unwrap();
                let mut received = [0; 16];
                let length = workers[worker].recv(&mut received).unwrap();
                assert_eq!(&received[..length], packet);
            }
        }
    }

    #[test]
    fn packets_too_short_for_an_id_go_to_the_first_worker() {
        let workers = group(2);
        steer_by_connection_id(&workers).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client
            .send_to(&[0xc0, 0], workers[0].local_addr().unwrap())
            .unwrap();
        assert_eq!(workers[0].recv(&mut [0; 16]).unwrap(), 2);
    }

    #[test]
    fn a_single_worker_needs_no_program() {
        steer_by_connection_id(&group(1)).unwrap();
    }
}
