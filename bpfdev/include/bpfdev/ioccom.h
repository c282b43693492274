/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * How a request number is put together: direction, size of the argument, group,
 * number within the group.
 *
 * In the dialect linux as <sys/ioctl.h> of Linux does it; for a BSD as its
 * <sys/ioccom.h>: 3 bits of direction seen from the caller, 13 bits of size.
 * The names are ours, because _IOR() and friends keep Linux's meaning for all
 * the rest of a program.
 */
#ifndef _BPFDEV_IOCCOM_H_
#define _BPFDEV_IOCCOM_H_

#include <bpfdev/dialect.h>

#ifdef _BPFDEV_LINUX

#include <sys/ioctl.h>

#define _BPFDEV_IO(group, number) _IO(group, number)
#define _BPFDEV_IOR(group, number, type) _IOR(group, number, type)
#define _BPFDEV_IOW(group, number, type) _IOW(group, number, type)
#define _BPFDEV_IOWR(group, number, type) _IOWR(group, number, type)

#else

#define _BPFDEV_IOC(direction, group, number, size) \
	((direction) | (((size) & 0x1fffUL) << 16) | ((unsigned long)(group) << 8) | (unsigned long)(number))
#define _BPFDEV_IO(group, number) _BPFDEV_IOC(0x20000000UL, group, number, 0UL)
#define _BPFDEV_IOR(group, number, type) _BPFDEV_IOC(0x40000000UL, group, number, sizeof(type))
#define _BPFDEV_IOW(group, number, type) _BPFDEV_IOC(0x80000000UL, group, number, sizeof(type))
#define _BPFDEV_IOWR(group, number, type) _BPFDEV_IOC(0xc0000000UL, group, number, sizeof(type))

#endif

#endif /* !_BPFDEV_IOCCOM_H_ */
