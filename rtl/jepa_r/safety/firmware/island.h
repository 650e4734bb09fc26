/* Types and functions of the island's firmware. map.h and settings.h are made from
   jepa_r/safety/map.py and arm.py. */

#ifndef ISLAND_H
#define ISLAND_H

#include <stdint.h>

#include "map.h"
#include "settings.h"

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define ELEMENT(address, n) REGISTER((address) + 4u * (n))

/* What encoders and controllers send for a number that they do not have. */
#define NOT_A_NUMBER INT32_MIN

/* A packet as it was taken: read once, checked and used from here. */
struct packet {
    uint32_t status;
    uint32_t age;
    uint32_t words[COMMAND_COUNT];
};

/* What the arm is asked for. */
struct command {
    int32_t position[JOINTS];
    int32_t velocity[JOINTS];
    int32_t torque[JOINTS];
};

/* The last command that was accepted. Before the first, `started` is 0, any sequence number is
   good, and steps are measured from `last`. */
struct commands {
    uint32_t started;
    uint32_t sequence;
    uint32_t misses;
    struct command last;
};

/* The last sample of the joints that was accepted; before the first, any position inside the
   limits is good. */
struct joints {
    uint32_t started;
    uint32_t sequence;
    uint32_t misses;
    int32_t position[JOINTS];
    int32_t velocity[JOINTS];
};

/* command.c */
uint32_t command_check(const struct settings *limits, const struct packet *packet,
                       struct commands *commands);

/* joints.c */
uint32_t joints_check(const struct settings *limits, const struct packet *packet,
                      struct joints *joints);

/* impedance.c */
void impedance(const struct settings *limits, const struct command *target,
               const struct joints *joints, int32_t torque[JOINTS]);

/* start.c */
void start(void);

/* cycle.c */
void cycle(void) __attribute__((noreturn));
void period(void);
void fall_back(void);

/* watchdog.c */
uint32_t watchdog_token(uint32_t challenge);

/* crt0.S */
void fail(uint32_t fault) __attribute__((noreturn));
uint32_t probe(const uint32_t *word, uint32_t *cause);
uint32_t interrupted(uint32_t enabled);
void inject(uint32_t *word, uint32_t value, uint32_t injection);

extern const struct settings settings;

#endif
