//! dragonfly
