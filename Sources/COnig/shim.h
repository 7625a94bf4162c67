#include <oniguruma.h>
#include <stddef.h>

/// Compiles a pattern of UTF-8, in Oniguruma's own syntax, or character by character. Only for one thread at a time.
///
/// `message` has room for `ONIG_MAX_ERROR_MESSAGE_LEN` bytes and gets the reason if the result is null, with its length
/// in `length`.
static inline OnigRegex onig_compile_utf8(
    const unsigned char *text, size_t count, int is_literal, unsigned char *message, int *length) {
  OnigEncoding encoding = ONIG_ENCODING_UTF8;
  OnigRegex code = NULL;
  OnigErrorInfo info = {0};
  OnigSyntaxType syntax = is_literal ? OnigSyntaxASIS : OnigSyntaxOniguruma;
  int status = onig_initialize(&encoding, 1);
  if (status == ONIG_NORMAL)
    status = onig_new(&code, text, text + count, ONIG_OPTION_NONE, encoding, &syntax, &info);
  if (status == ONIG_NORMAL) return code;
  *length = onig_error_code_to_str(message, status, &info);
  return NULL;
}
