/* Reset: test of the core, test of the data memory, then C. Registers alone are used until the
   memory is known to be good. */

#include "map.h"

    .section .start, "ax"
    .globl _start
_start:
    la      t0, trap
    csrw    mtvec, t0
    csrw    mie, zero
    li      t0, REG_STAGE
    li      t1, STAGE_CORE
    sw      t1, 0(t0)
    jal     core_test
    la      t0, core_signature
    lw      t0, 0(t0)
    la      t1, trap
    csrw    mtvec, t1
    li      a1, FAULT_CORE
    bne     a0, t0, fail_with

    li      t0, REG_STAGE
    li      t1, STAGE_MEMORY
    sw      t1, 0(t0)
    jal     memory_test
    li      a1, FAULT_MEMORY
    bnez    a0, fail_with

    la      sp, _stack
    jal     main
    /* main does not return; if it does, that is the trap below. */

/* Any trap that no test expects. */
    .balign 4
trap:
    li      a1, FAULT_TRAP

/* Log the fault in a1 and trip. Without tokens the watchdog trips as well. */
fail_with:
    li      t0, REG_FAULT
    lw      t1, 0(t0)
    bnez    t1, 1f
    sw      a1, 0(t0)
1:  li      t0, REG_REQUEST
    li      t1, KEY_REQUEST_TRIP
    sw      t1, 0(t0)
2:  j       2b

/* void fail(uint32_t fault) */
    .text
    .globl fail
fail:
    mv      a1, a0
    j       fail_with

/* March C- over the data memory, then each word's own address; leaves it zero. a0: 0 if good.

   up (w0), up (r0 w1), up (r1 w0), down (r0 w1), down (r1 w0), up (r0 wA), up (rA w0)
   (van de Goor, "Testing Semiconductor Memories", 1991; the last two for faults of addresses that
   move with the data). The words pass through their code, so its check bits march, too. */
    .text
    .globl memory_test
memory_test:
    li      t0, DATA_BASE
    li      t1, DATA_BASE + DATA_SIZE
    li      t2, 0
    li      t3, -1
    li      a0, 1

    mv      t4, t0
1:  sw      t2, 0(t4)
    addi    t4, t4, 4
    bltu    t4, t1, 1b

    .macro march_up expected, next
    mv      t4, t0
1:  lw      t5, 0(t4)
    bne     t5, \expected, 9f
    sw      \next, 0(t4)
    addi    t4, t4, 4
    bltu    t4, t1, 1b
    .endm

    .macro march_down expected, next
    mv      t4, t1
1:  addi    t4, t4, -4
    lw      t5, 0(t4)
    bne     t5, \expected, 9f
    sw      \next, 0(t4)
    bltu    t0, t4, 1b
    .endm

    march_up    t2, t3
    march_up    t3, t2
    march_down  t2, t3
    march_down  t3, t2
    march_up    t2, t4
    march_up    t4, t2
    li      a0, 0
9:  ret

/* uint32_t probe(const uint32_t *word, uint32_t *cause)
   Load a word that may be refused: 0 and the cause of the trap, or the word and 0. */
    .globl probe
probe:
    csrr    t0, mtvec
    la      t1, 1f
    csrw    mtvec, t1
    mv      t2, a0
    li      a0, 0
    csrw    mcause, zero
    lw      a0, 0(t2)
    .balign 4
1:  csrw    mtvec, t0
    csrr    t1, mcause
    sw      t1, 0(a1)
    ret

/* uint32_t interrupted(uint32_t enabled)
   Enable interrupts for a few cycles: the cause of the one that was taken, or 0. */
    .globl interrupted
interrupted:
    csrr    t0, mtvec
    la      t1, 1f
    csrw    mtvec, t1
    csrw    mcause, zero
    csrw    mie, a0
    csrsi   mstatus, 8
    nop
    nop
    csrci   mstatus, 8
    .balign 4
1:  csrw    mie, zero
    csrci   mstatus, 8
    csrw    mtvec, t0
    csrr    a0, mcause
    ret

/* void inject(uint32_t *word, uint32_t value, uint32_t injection)
   Store a word with some bits of its code inverted; no other store may come between. */
    .globl inject
inject:
    li      t0, REG_ECC_INJECT
    sw      a2, 0(t0)
    sw      a1, 0(a0)
    ret
