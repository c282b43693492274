//! netbsd
