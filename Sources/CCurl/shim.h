// libcurl for Swift, which cannot call functions with variable arguments, and a filter of network addresses.
#include <arpa/inet.h>
#include <curl/curl.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static inline CURLcode ccurl_set_number(CURL *handle, CURLoption option, long value) {
  return curl_easy_setopt(handle, option, value);
}

static inline CURLcode ccurl_set_text(CURL *handle, CURLoption option, const char *value) {
  return curl_easy_setopt(handle, option, value);
}

static inline CURLcode ccurl_set_list(CURL *handle, CURLoption option, struct curl_slist *value) {
  return curl_easy_setopt(handle, option, value);
}

/// The schemes that a handle may use, as a comma-separated list.
static inline CURLcode ccurl_set_web_only(CURL *handle) {
#if LIBCURL_VERSION_NUM >= 0x075500
  return curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
#else
  return curl_easy_setopt(handle, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
}

/// Receives a piece of a head or a body; it returns less than the count to end the transfer.
typedef size_t (*ccurl_receiver)(char *bytes, size_t size, size_t count, void *context);

static inline CURLcode ccurl_set_receivers(CURL *handle, ccurl_receiver head, ccurl_receiver body, void *context) {
  CURLcode code = curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, head);
  if (code == CURLE_OK) code = curl_easy_setopt(handle, CURLOPT_HEADERDATA, context);
  if (code == CURLE_OK) code = curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, body);
  if (code == CURLE_OK) code = curl_easy_setopt(handle, CURLOPT_WRITEDATA, context);
  return code;
}

/// The result of the finished transfer, or -1 if there is none.
static inline int ccurl_result(CURLM *multi) {
  int left = 0, result = -1;
  CURLMsg *message;
  while ((message = curl_multi_info_read(multi, &left)))
    if (message->msg == CURLMSG_DONE) result = (int)message->data.result;
  return result;
}

// MARK: Signals

/// A thread's previous signal mask.
struct ccurl_pipe_guard {
  sigset_t mask;
  int was_pending;
};

/// Keeps SIGPIPE from ending the process: TLS writes to a connection that its peer has closed raise it. Masking it for
/// the thread does not affect how the rest of the process handles it, such as ending when its output is closed.
static inline void ccurl_guard_pipe(struct ccurl_pipe_guard *guard) {
  sigset_t pipe, pending;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  sigpending(&pending);
  guard->was_pending = sigismember(&pending, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &pipe, &guard->mask);
}

/// Consumes a signal that arrived meanwhile, and restores the mask.
static inline void ccurl_release_pipe(struct ccurl_pipe_guard *guard) {
  sigset_t pipe, pending;
  int number;
  sigemptyset(&pipe);
  sigaddset(&pipe, SIGPIPE);
  sigpending(&pending);
  if (!guard->was_pending && sigismember(&pending, SIGPIPE)) sigwait(&pipe, &number);
  pthread_sigmask(SIG_SETMASK, &guard->mask, NULL);
}

// MARK: Network addresses

/// Which addresses may be connected to, and what was encountered. One for each handle.
struct ccurl_filter {
  /// Whether non-public addresses are allowed.
  int allows_private;
  /// Set if a connection to such an address was opened, or refused.
  int met_private, refused_private;
  /// The addresses of the environment's proxies, which are connected to instead of a server.
  struct sockaddr_storage proxies[16];
  int proxy_count;
};

static inline int ccurl_v4_is_private(uint32_t a) {
  return a >> 24 == 0 || a >> 24 == 10 || a >> 24 == 127 || a >> 22 == (100u << 2 | 1) /* 100.64/10 */
         || a >> 16 == (169u << 8 | 254) || a >> 20 == (172u << 4 | 1) || a >> 16 == (192u << 8 | 168)
         || a >> 8 == 192u << 16 /* 192.0.0/24 */ || a >> 17 == (198u << 7 | 9) /* 198.18/15 */
         || a >> 28 >= 14 /* multicast, reserved, broadcast */;
}

/// Whether an address is of this host, this link, a private network, or for no host at all (the registries of special
/// addresses of IANA; RFC 6890). An IPv4 address inside an IPv6 one is classified as IPv4.
static inline int ccurl_is_private(const struct sockaddr *address) {
  if (address->sa_family == AF_INET) {
    struct sockaddr_in v4;
    memcpy(&v4, address, sizeof v4);
    return ccurl_v4_is_private(ntohl(v4.sin_addr.s_addr));
  }
  if (address->sa_family != AF_INET6) return 1;
  struct sockaddr_in6 v6;
  memcpy(&v6, address, sizeof v6);
  const uint8_t *b = v6.sin6_addr.s6_addr;
  static const uint8_t zeros[12] = {0};
  static const uint8_t nat64[12] = {0, 0x64, 0xFF, 0x9B};
  static const uint8_t mapped[12] = {[10] = 0xFF, [11] = 0xFF};
  uint32_t last = (uint32_t)b[12] << 24 | (uint32_t)b[13] << 16 | (uint32_t)b[14] << 8 | b[15];
  if (!memcmp(b, zeros, 12) || !memcmp(b, nat64, 12) || !memcmp(b, mapped, 12)) return ccurl_v4_is_private(last);
  if (b[0] == 0x20 && b[1] == 0x02)
    return ccurl_v4_is_private((uint32_t)b[2] << 24 | (uint32_t)b[3] << 16 | (uint32_t)b[4] << 8 | b[5]);
  return (b[0] & 0xFE) == 0xFC || (b[0] == 0xFE && b[1] >= 0x80) || b[0] == 0xFF || (b[0] == 0 && b[1] == 0);
}

/// Whether the text of an address, without brackets, is private; -1 if it is not an address.
static inline int ccurl_text_is_private(const char *text) {
  struct sockaddr_in v4 = {.sin_family = AF_INET};
  struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
  if (inet_pton(AF_INET, text, &v4.sin_addr) == 1) return ccurl_is_private((struct sockaddr *)&v4);
  if (inet_pton(AF_INET6, text, &v6.sin6_addr) == 1) return ccurl_is_private((struct sockaddr *)&v6);
  return -1;
}

/// Records the addresses of a proxy.
static inline void ccurl_add_proxy(struct ccurl_filter *filter, const char *host, const char *port) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
  if (getaddrinfo(host, port, &hints, &found) != 0) return;
  for (struct addrinfo *one = found; one && filter->proxy_count < 16; one = one->ai_next)
    if (one->ai_addrlen <= sizeof filter->proxies[0])
      memcpy(&filter->proxies[filter->proxy_count++], one->ai_addr, one->ai_addrlen);
  freeaddrinfo(found);
}

static inline int ccurl_is_proxy(const struct ccurl_filter *filter, const struct curl_sockaddr *address) {
  for (int i = 0; i < filter->proxy_count; i++) {
    const struct sockaddr *proxy = (const struct sockaddr *)&filter->proxies[i];
    if (proxy->sa_family != address->family) continue;
    if (proxy->sa_family == AF_INET) {
      struct sockaddr_in a, b;
      memcpy(&a, proxy, sizeof a);
      memcpy(&b, &address->addr, sizeof b);
      if (a.sin_port == b.sin_port && a.sin_addr.s_addr == b.sin_addr.s_addr) return 1;
    } else if (proxy->sa_family == AF_INET6) {
      struct sockaddr_in6 a, b;
      memcpy(&a, proxy, sizeof a);
      memcpy(&b, &address->addr, sizeof b);
      if (a.sin6_port == b.sin6_port && !memcmp(&a.sin6_addr, &b.sin6_addr, sizeof a.sin6_addr)) return 1;
    }
  }
  return 0;
}

/// Called for each connection after names were resolved, so that a name cannot resolve to another address later.
static inline curl_socket_t ccurl_open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address) {
  struct ccurl_filter *filter = (struct ccurl_filter *)context;
  (void)purpose;
  if (!ccurl_is_proxy(filter, address) && ccurl_is_private(&address->addr)) {
    if (!filter->allows_private) {
      filter->refused_private = 1;
      return CURL_SOCKET_BAD;
    }
    filter->met_private = 1;
  }
  int descriptor = socket(address->family, address->socktype, address->protocol);
  if (descriptor >= 0) fcntl(descriptor, F_SETFD, FD_CLOEXEC);
  return descriptor;
}

static inline CURLcode ccurl_set_filter(CURL *handle, struct ccurl_filter *filter) {
  CURLcode code = curl_easy_setopt(handle, CURLOPT_OPENSOCKETFUNCTION, ccurl_open_socket);
  if (code == CURLE_OK) code = curl_easy_setopt(handle, CURLOPT_OPENSOCKETDATA, (void *)filter);
  return code;
}
