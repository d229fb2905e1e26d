package bench

import (
	"bufio"
	"context"
	"crypto/tls"
	"net/http"
	"strconv"
	"strings"
)

// usualLine is the length of an audit record where the server does not say.
const usualLine = 600

// audited is what the server's metrics say that its audit log has written.
type audited struct{ bytes, records float64 }

// audited asks the server; what it does not say is zero.
func (r *run) audited(ctx context.Context) audited {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: r.target.tls.RootCAs, ServerName: r.target.tls.ServerName,
	}}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+r.target.host+"/v1/sys/metrics?format=prometheus", http.NoBody)
	if err != nil {
		return audited{}
	}
	request.Header.Set("X-Vault-Token", r.target.token)
	response, err := client.Do(request)
	if err != nil {
		return audited{}
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return audited{}
	}
	var a audited
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		switch name {
		case "rotunda_audit_bytes_total":
			a.bytes = n
		case "rotunda_audit_records_total":
			a.records = n
		}
	}
	return a
}

func lineSize(before, after audited) int {
	if after.records <= before.records {
		return usualLine
	}
	return int((after.bytes - before.bytes) / (after.records - before.records))
}
