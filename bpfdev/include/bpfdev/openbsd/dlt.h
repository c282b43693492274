/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * OpenBSD's link types, for <net/dlt.h> with BPFDEV_ABI_OPENBSD. DLT_LOOP,
 * DLT_ENC and DLT_RAW are its own: 12, 13 and 14.
 *
 * Names and numbers as in sys/net/bpf.h of OpenBSD 7.3; the list is
 * compat-tests/abi.json's, and the tests compare the two.
 */
#define DLT_NULL 0
#define DLT_EN10MB 1
#define DLT_EN3MB 2
#define DLT_AX25 3
#define DLT_PRONET 4
#define DLT_CHAOS 5
#define DLT_IEEE802 6
#define DLT_ARCNET 7
#define DLT_SLIP 8
#define DLT_PPP 9
#define DLT_FDDI 10
#define DLT_ATM_RFC1483 11
#define DLT_LOOP 12
#define DLT_ENC 13
#define DLT_RAW 14
#define DLT_SLIP_BSDOS 15
#define DLT_PPP_BSDOS 16
#define DLT_PFSYNC 18
#define DLT_PPP_SERIAL 50
#define DLT_PPP_ETHER 51
#define DLT_C_HDLC 104
#define DLT_IEEE802_11 105
#define DLT_PFLOG 117
#define DLT_IEEE802_11_RADIO 127
#define DLT_USER0 147
#define DLT_USER1 148
#define DLT_USER2 149
#define DLT_USER3 150
#define DLT_USER4 151
#define DLT_USER5 152
#define DLT_USER6 153
#define DLT_USER7 154
#define DLT_USER8 155
#define DLT_USER9 156
#define DLT_USER10 157
#define DLT_USER11 158
#define DLT_USER12 159
#define DLT_USER13 160
#define DLT_USER14 161
#define DLT_USER15 162
#define DLT_MPLS 219
#define DLT_USBPCAP 249
#define DLT_OPENFLOW 267
