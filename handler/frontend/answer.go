package frontend

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddy-klavi/caddy-klavi/gateway"
	"github.com/caddy-klavi/caddy-klavi/handler/problem"
	"github.com/caddy-klavi/caddy-klavi/klavi"
)

const (
	// maxBody is more than all fields take up at their longest, with every
	// character escaped; bodyTime is far longer than it takes to send them.
	maxBody  = 32 << 10
	bodyTime = 10 * time.Second

	// statusClientGone is what access logs show where nobody waited for an answer.
	statusClientGone = 499

	maxRetryAfter = 3600
)

// readJSON returns the body of a POST request.
func readJSON(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if err := checkContentType(r.Header); err != nil {
		return nil, err
	}
	if r.ContentLength > maxBody {
		return nil, tooLarge()
	}
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Now().Add(bodyTime))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		_ = conn.SetReadDeadline(time.Time{}) // or else it would end the call to Klavi
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, tooLarge()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, problem.New(problem.TooSlow, "A body has "+bodyTime.String()+" to arrive.")
	}
	// Over HTTP/3 a body that is shorter than announced ends without an error.
	if err != nil || r.ContentLength >= 0 && int64(len(body)) != r.ContentLength {
		return nil, problem.New(problem.InvalidRequest, "The body ended too early.")
	}
	return body, nil
}

// isTooSlow reports whether err is about a body that did not arrive in time. The
// server ends the request's context then, as if the client had gone.
func isTooSlow(err error) bool {
	p, ok := errors.AsType[*problem.Problem](err)
	return ok && p.Type == problem.TooSlow
}

func tooLarge() error {
	return problem.New(problem.TooLarge, "A body can have 32 KiB.")
}

func checkContentType(h http.Header) error {
	types := h["Content-Type"]
	if len(types) != 1 {
		return problem.New(problem.UnsupportedMediaType, "Send one Content-Type: application/json.")
	}
	mediaType, params, err := mime.ParseMediaType(types[0])
	charset, hasCharset := params["charset"]
	if err != nil || mediaType != "application/json" || hasCharset && !strings.EqualFold(charset, "utf-8") ||
		len(params) > 1 || len(params) == 1 && !hasCharset {
		return problem.New(problem.UnsupportedMediaType, "Send Content-Type: application/json.")
	}
	for _, encoding := range h["Content-Encoding"] {
		if !strings.EqualFold(encoding, "identity") {
			return problem.New(problem.UnsupportedMediaType, "Send the body without a Content-Encoding.")
		}
	}
	return nil
}

// jsonAnswer is an answer of Klavi's that may be given again for as long as kept.
func jsonAnswer(status int, body []byte, kept time.Duration) *gateway.Answer {
	return &gateway.Answer{
		Status: status,
		Kept:   kept,
		Header: http.Header{
			"Content-Type":           {"application/json"},
			"Cache-Control":          {"no-store"},
			"X-Content-Type-Options": {"nosniff"},
		},
		Body: body,
	}
}

// writeAnswer answers with what may have answered others before.
func writeAnswer(w http.ResponseWriter, answer *gateway.Answer) {
	h := w.Header()
	for name, values := range answer.Header {
		// A copy: Caddy's header handler edits values in place.
		h[name] = slices.Clone(values)
	}
	h["Content-Length"] = []string{strconv.Itoa(len(answer.Body))}
	w.WriteHeader(answer.Status)
	_, _ = w.Write(answer.Body)
}

// succeeded reports whether an answer of Klavi's is a success with a whole body.
func succeeded(res *http.Response) bool {
	return res.StatusCode >= http.StatusOK && res.StatusCode <= http.StatusNonAuthoritativeInfo
}

// callFailed is the problem of a call that brought no answer.
func (f *Frontend) callFailed(ctx context.Context, endpoint string, err error) error {
	if ctx.Err() != nil {
		return err // the browser is gone
	}
	f.logger.Warn("calling klavi failed", zap.String("endpoint", endpoint), zap.Error(err))
	return problem.FromCall(err)
}

// readAnswer returns the body of an answer that is known to be small, and closes it.
func (f *Frontend) readAnswer(res *http.Response, endpoint string) ([]byte, error) {
	body, err := klavi.ReadSmall(res)
	if err != nil && errors.Unwrap(err) == nil { // it was read, and is too large
		return nil, f.nonsense(endpoint, err)
	}
	if err != nil {
		return nil, f.brokeOff(endpoint, err)
	}
	return body, nil
}

// brokeOff is the problem of an answer whose body did not come to its end, or that
// was not read to its end because of what it repeats.
func (f *Frontend) brokeOff(endpoint string, err error) *problem.Problem {
	if errors.Is(err, gateway.ErrRepeats) {
		return f.nonsense(endpoint, err)
	}
	broken := &gateway.CallError{Timeout: errors.Is(err, context.DeadlineExceeded)}
	f.logger.Warn("klavi's answer broke off", zap.String("endpoint", endpoint), zap.Bool("timeout", broken.Timeout))
	return problem.FromCall(broken)
}

// answerProblem is the problem of an answer that is not a success. It closes the
// answer.
func (f *Frontend) answerProblem(res *http.Response, endpoint string) *problem.Problem {
	body, err := klavi.ReadSmall(res)
	if err != nil {
		body = nil // the status says enough
	}
	if res.StatusCode < http.StatusBadRequest {
		return f.nonsense(endpoint, errors.New("the answer has status "+strconv.Itoa(res.StatusCode)))
	}
	answer := klavi.ParseError(res.StatusCode, body)
	if f.account.Repeats(string(body)+answer.Title+answer.Message, gateway.SentToken(res)) {
		answer.Title, answer.Message = "", ""
	}
	f.logger.Warn("klavi refused a request", zap.String("endpoint", endpoint), zap.Error(answer))
	p := problem.FromAnswer(answer)
	if res.StatusCode >= http.StatusInternalServerError {
		p.Message = "" // about Klavi's own house; the log has it
	}
	if seconds, ok := retryAfter(res.Header); ok && p.RetryAfter > 0 {
		p.RetryAfter = time.Duration(seconds) * time.Second
	}
	return p
}

// scopedProblem is answerProblem for what was sent with a link token: a 401 is
// about the link then.
func (f *Frontend) scopedProblem(res *http.Response, endpoint string) error {
	p := f.answerProblem(res, endpoint)
	if res.StatusCode == http.StatusUnauthorized {
		expired := linkExpired()
		expired.Code, expired.Message = p.Code, p.Message
		return expired
	}
	return p
}

// nonsense is the problem of an answer that cannot be used.
func (f *Frontend) nonsense(endpoint string, err error) *problem.Problem {
	f.logger.Error("klavi's answer cannot be used", zap.String("endpoint", endpoint), zap.Error(err))
	return problem.New(problem.KlaviNonsense, "Klavi answered with something else than it documents.")
}

// retryAfter reads the form in seconds; the form with a date is not worth a clock.
func retryAfter(h http.Header) (int, bool) {
	seconds, err := strconv.Atoi(h.Get("Retry-After"))
	return min(seconds, maxRetryAfter), err == nil && seconds > 0
}
