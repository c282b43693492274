/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * <sys/ioccom.h> for Linux: what BSD's has to take a request number apart.
 *
 * _IO(), _IOR(), _IOW(), _IOWR() and IOC_IN, IOC_OUT, IOC_INOUT are those of
 * Linux, and so are the numbers they make.  IOCPARM_LEN(), IOCGROUP() and
 * IOCBASECMD() are true of a BSD's number as well, which the requests of
 * <net/bpf.h> are in a BSD's dialect.
 */
#ifndef _SYS_IOCCOM_H_
#define _SYS_IOCCOM_H_

#include <sys/ioctl.h>

/* A BSD's 13 bits of size; Linux's field has at least as many, in the same place. */
#define IOCPARM_SHIFT 13
#define IOCPARM_MASK ((1U << IOCPARM_SHIFT) - 1)
#define IOCPARM_MAX (1 << IOCPARM_SHIFT)
#define IOCPARM_LEN(x) (((x) >> 16) & IOCPARM_MASK)
#define IOCBASECMD(x) ((x) & ~(IOCPARM_MASK << 16))
#define IOCGROUP(x) (((x) >> 8) & 0xff)

/* No argument.  No bit is set on most of Linux's architectures: compare (x & IOC_DIRMASK) with it. */
#define IOC_VOID (_IOC_NONE << _IOC_DIRSHIFT)
#define IOC_DIRMASK ((unsigned int)_IOC_DIRMASK << _IOC_DIRSHIFT)

#endif /* !_SYS_IOCCOM_H_ */
