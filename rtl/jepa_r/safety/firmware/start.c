/* The start, after core and memory were tested: the other self tests, the settings, and the lock.
   Each stage that fails ends in fail(). */

#include "island.h"

/* Bits of a code word. */
#define CODE_BITS 39u

/* Reads of a status before its test counts as failed; each takes some cycles, the longest test,
   that of the comparator, about a thousand. */
#define PATIENCE 4096u

/* Periods that the check of the accelerator's image may take. */
#define IMAGE_PERIODS 10000u

#define CAUSE_LOAD_FAULT 5u
#define CAUSE_TIMER 0x80000007u
#define CAUSE_EXTERNAL 0x8000000Bu
#define ENABLE_TIMER 0x080u
#define ENABLE_EXTERNAL 0x800u

static void expect(uint32_t good, uint32_t fault)
{
    if (good == 0u) {
        fail(fault);
    }
}

/* Wait until the bits of a register in `mask` have a value: whether they did in time. */
static uint32_t await(uint32_t address, uint32_t mask, uint32_t value)
{
    uint32_t n;

    for (n = 0u; n < PATIENCE; ++n) { /* bound: PATIENCE */
        if ((REGISTER(address) & mask) == value) {
            return 1u;
        }
    }
    return 0u;
}

static uint32_t interrupt_test(uint32_t raised, uint32_t enabled)
{
    REGISTER(REG_INTERRUPT_TEST) = raised | INTERRUPT_TEST_MASK;
    return interrupted(enabled);
}

static void test_interrupts(void)
{
    const uint32_t both = INTERRUPT_TEST_TIMER | INTERRUPT_TEST_EXTERNAL;
    const uint32_t all = ENABLE_TIMER | ENABLE_EXTERNAL;

    expect(interrupt_test(0u, all) == 0u, FAULT_INTERRUPTS);
    expect(interrupt_test(both, 0u) == 0u, FAULT_INTERRUPTS);
    expect(interrupt_test(INTERRUPT_TEST_TIMER, all) == CAUSE_TIMER, FAULT_INTERRUPTS);
    expect(interrupt_test(INTERRUPT_TEST_EXTERNAL, all) == CAUSE_EXTERNAL, FAULT_INTERRUPTS);
    expect(interrupt_test(both, all) == CAUSE_EXTERNAL, FAULT_INTERRUPTS);
    expect(interrupt_test(both, ENABLE_TIMER) == CAUSE_TIMER, FAULT_INTERRUPTS);
    REGISTER(REG_INTERRUPT_TEST) = 0u;
}

/* Every single wrong bit is corrected and counted; of each bit with a neighbour, both wrong are
   refused and counted. */
static void test_ecc(void)
{
    static uint32_t word;
    uint32_t bit;

    for (bit = 0u; bit < CODE_BITS; ++bit) { /* bound: CODE_BITS */
        uint32_t value = 0x9E3779B9u << (bit & 7u);
        uint32_t other = bit == 0u ? CODE_BITS - 1u : bit - 1u;
        uint32_t before = REGISTER(REG_DATA_CORRECTED);
        uint32_t cause;

        inject(&word, value, bit | (1u << ECC_INJECT_COUNT_SHIFT));
        expect(probe(&word, &cause) == value, FAULT_ECC);
        expect(cause == 0u, FAULT_ECC);
        expect(REGISTER(REG_DATA_CORRECTED) > before, FAULT_ECC);

        before = REGISTER(REG_DATA_UNCORRECTABLE);
        inject(&word, value,
               bit | (other << ECC_INJECT_SECOND_SHIFT) | (2u << ECC_INJECT_COUNT_SHIFT));
        expect(probe(&word, &cause) == 0u, FAULT_ECC);
        expect(cause == CAUSE_LOAD_FAULT, FAULT_ECC);
        expect(REGISTER(REG_DATA_UNCORRECTABLE) > before, FAULT_ECC);
        inject(&word, ~value, 0u);
        expect(probe(&word, &cause) == ~value, FAULT_ECC);
    }
}

static void test_comparator(void)
{
    REGISTER(REG_COMPARATOR_TEST) = KEY_TEST_COMPARATOR;
    expect(await(REG_COMPARATOR_STATUS, COMPARATOR_STATUS_DONE, COMPARATOR_STATUS_DONE),
           FAULT_COMPARATOR);
    expect((REGISTER(REG_COMPARATOR_STATUS) & COMPARATOR_STATUS_GOOD) != 0u, FAULT_COMPARATOR);
}

/* A dry run of the watchdog: no token, or one at once or in the window, its bits changed by
   `change`; what the run must leave. */
static void dry_run(uint32_t tokens, uint32_t in_window, uint32_t change, uint32_t left)
{
    const uint32_t results = WATCHDOG_STATUS_EARLY | WATCHDOG_STATUS_LATE | WATCHDOG_STATUS_WRONG
                             | WATCHDOG_STATUS_SERVED;

    REGISTER(REG_WATCHDOG_TEST) = KEY_TEST_WATCHDOG;
    if (in_window != 0u) {
        expect(await(REG_WATCHDOG_STATUS, WATCHDOG_STATUS_OPEN, WATCHDOG_STATUS_OPEN),
               FAULT_WATCHDOG);
    }
    if (tokens != 0u) {
        REGISTER(REG_WATCHDOG_TOKEN) = watchdog_token(REGISTER(REG_WATCHDOG_CHALLENGE)) ^ change;
    }
    expect(await(REG_WATCHDOG_STATUS, WATCHDOG_STATUS_DRY, 0u), FAULT_WATCHDOG);
    expect((REGISTER(REG_WATCHDOG_STATUS) & results) == left, FAULT_WATCHDOG);
}

static void test_watchdog(void)
{
    uint32_t used;

    dry_run(1u, 0u, 0u, WATCHDOG_STATUS_EARLY);
    dry_run(0u, 0u, 0u, WATCHDOG_STATUS_LATE);
    dry_run(1u, 1u, 1u, WATCHDOG_STATUS_WRONG);
    /* The token that was good last. */
    used = REGISTER(REG_WATCHDOG_CHALLENGE);
    dry_run(1u, 1u, used ^ watchdog_token(used), WATCHDOG_STATUS_WRONG);
    dry_run(1u, 1u, 0u, WATCHDOG_STATUS_SERVED);
}

static void await_image(void)
{
    uint32_t began = REGISTER(REG_TICK);

    while (REGISTER(REG_AI_VERDICT) != AI_VERDICT_GOOD) { /* bound: IMAGE_PERIODS of time */
        expect((REGISTER(REG_AI_VERDICT) & AI_VERDICT_BAD) == 0u, FAULT_IMAGE);
        expect(REGISTER(REG_TICK) - began <= IMAGE_PERIODS, FAULT_IMAGE);
    }
}

static void set(uint32_t address, uint32_t value)
{
    REGISTER(address) = value;
    REGISTER(address) = ~value;
    expect(REGISTER(address) == value, FAULT_SETTINGS);
}

static void write_settings(void)
{
    uint32_t joint;

    set(REG_WATCHDOG_OPEN, settings.watchdog_open);
    set(REG_WATCHDOG_DEADLINE, settings.watchdog_deadline);
    set(REG_DEADLINE_OPEN, settings.deadline_open);
    set(REG_DEADLINE_LIMIT, settings.deadline_limit);
    for (joint = 0u; joint < JOINTS; ++joint) { /* bound: JOINTS */
        set(REG_LIMIT_TORQUE + 4u * joint, (uint32_t)settings.torque_limit[joint]);
        set(REG_LIMIT_SLEW + 4u * joint, (uint32_t)settings.torque_slew[joint]);
    }
    set(REG_LIMIT_SAMPLE_AGE, settings.joint_age_cycles);
    set(REG_LIMIT_FALLBACK, settings.fallback_periods_hardware);
}

/* Lock right after a period began, so that the first token, in the next, meets the window. */
static void lock(void)
{
    const uint32_t good = LOCK_LOCKED | LOCK_GOOD;
    uint32_t began = REGISTER(REG_TICK);
    uint32_t n;

    for (n = 0u; (n < PERIOD_CYCLES) && (REGISTER(REG_TICK) == began); ++n) { /* bound: a period */
    }
    REGISTER(REG_LOCK) = KEY_LOCK;
    expect(REGISTER(REG_LOCK) == good, FAULT_SETTINGS);
    REGISTER(REG_REQUEST) = KEY_REQUEST_LOCKED;
    expect(REGISTER(REG_STATE) == STATE_LOCKED, FAULT_SETTINGS);
}

void start(void)
{
    REGISTER(REG_STAGE) = STAGE_INTERRUPTS;
    test_interrupts();
    REGISTER(REG_STAGE) = STAGE_ECC;
    test_ecc();
    REGISTER(REG_STAGE) = STAGE_COMPARATOR;
    test_comparator();
    REGISTER(REG_STAGE) = STAGE_WATCHDOG;
    test_watchdog();
    REGISTER(REG_STAGE) = STAGE_CLOCKS;
    expect(REGISTER(REG_CLOCKS) == 0u, FAULT_CLOCKS);
    REGISTER(REG_STAGE) = STAGE_IMAGE;
    await_image();
    REGISTER(REG_STAGE) = STAGE_SETTINGS;
    write_settings();
    lock();
    REGISTER(REG_AI_RELEASE) = KEY_RELEASE_AI;
    REGISTER(REG_STAGE) = STAGE_READY;
}
