//! The thread that makes nodes while the device is served: the loop has no means to, and it has no client's data.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use super::node::{Access, Node};
use crate::service::privilege::{self, PrivilegeError};
use crate::service::seccomp::{Guard, Role};
use crate::serving::ServeError;

enum Order {
    Narrow(Sender<Result<(), PrivilegeError>>),
    Enter(Sender<io::Result<()>>),
    Make(PathBuf, Sender<Result<Node, ServeError>>),
}

/// It ends when this is dropped.
#[derive(Debug)]
pub struct Maker(Sender<Order>);

impl Maker {
    /// Starts it.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(access: Access, guard: Guard) -> io::Result<Maker> {
        let (orders, taken) = channel();
        let work = move || {
            for order in taken {
                // who has asked waits for the answer
                match order {
                    Order::Narrow(answer) => drop(answer.send(privilege::keep_for_nodes())),
                    Order::Enter(answer) => drop(answer.send(guard.enter(Role::Nodes))),
                    Order::Make(path, answer) => drop(answer.send(Node::make(&path, access))),
                }
            }
        };
        thread::Builder::new().name("nodes".into()).spawn(work)?;
        Ok(Maker(orders))
    }

    fn ask<T>(&self, order: impl FnOnce(Sender<T>) -> Order) -> io::Result<T> {
        let (answer, heard) = channel();
        let died = || io::Error::other("the thread that makes nodes has ended");
        self.0.send(order(answer)).map_err(|_| died())?;
        heard.recv().map_err(|_| died())
    }

    /// Has it give up every capability but those that making nodes takes.
    ///
    /// # Errors
    /// The system refused.
    pub fn narrow(&self) -> Result<(), PrivilegeError> {
        self.ask(Order::Narrow).unwrap_or_else(|error| Err(PrivilegeError::new(error)))
    }

    /// Restricts it to the system calls that making nodes takes.
    ///
    /// # Errors
    /// seccomp(2)'s.
    pub fn enter(&self) -> io::Result<()> {
        self.ask(Order::Enter)?
    }

    /// Has it make a node, and waits until it is there.
    ///
    /// # Errors
    /// Those of [`Node::make`].
    pub fn make(&self, path: &Path) -> Result<Node, ServeError> {
        let made = self.ask(|answer| Order::Make(path.to_owned(), answer));
        made.unwrap_or_else(|error| Err(ServeError::new("make the device", path, error)))
    }
}
