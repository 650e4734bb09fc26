// Environment of the tests for a hart that has machine mode alone and no host: a store to `tohost`
// ends the run, with 1 if all passed, otherwise with twice the number of the case that failed, plus 1.
#ifndef RISCV_TEST_H
#define RISCV_TEST_H

#include "encoding.h"

#define TESTNUM gp

#define RVTEST_RV32M .macro init; .endm
#define RVTEST_RV32U RVTEST_RV32M
#define RVTEST_RV64M RVTEST_RV32M
#define RVTEST_RV64U RVTEST_RV32M

#define RVTEST_CODE_BEGIN          \
        .section .text.init;       \
        .weak mtvec_handler;       \
        .globl _start;             \
_start: la t0, trap_vector;        \
        csrw mtvec, t0;            \
        li TESTNUM, 0;             \
        init;                      \
        j begin;                   \
        .align 2;                  \
trap_vector:                       \
        la t5, mtvec_handler;      \
        beqz t5, unexpected;       \
        jr t5;                     \
unexpected:                        \
        RVTEST_FAIL                \
begin:

#define RVTEST_CODE_END unimp

#define RVTEST_PASS        \
        li TESTNUM, 1;     \
        la t0, tohost;     \
        sw TESTNUM, 0(t0); \
        j .;

#define RVTEST_FAIL              \
        sll TESTNUM, TESTNUM, 1; \
        or TESTNUM, TESTNUM, 1;  \
        la t0, tohost;           \
        sw TESTNUM, 0(t0);       \
        j .;

#define RVTEST_DATA_BEGIN
#define RVTEST_DATA_END

#endif
