/* What a caller of the link that is not written in C must know. */
#include "session.h"

size_t link_reader_bytes(void);
size_t link_session_bytes(void);

size_t link_reader_bytes(void)
{
    return sizeof(link_reader_t);
}

size_t link_session_bytes(void)
{
    return sizeof(link_session_t);
}
