/* Start, then the cycle until reset. */

#include "island.h"

int main(void)
{
    start();
    cycle();
}
