{{- define "hourglass.name" -}}
{{- printf "%s-%s" .Release.Name (default "hourglass" .Values.nameOverride) | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "hourglass.labels" -}}
app.kubernetes.io/name: hourglass
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "hourglass.selector" -}}
app.kubernetes.io/name: hourglass
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "hourglass.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}

{{- define "hourglass.secret" -}}
{{ default (include "hourglass.name" .) .Values.secrets.existingSecret }}
{{- end -}}

{{- define "hourglass.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "hourglass.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "hourglass.settings" -}}
- {name: DATABASE_URL_FILE, value: /run/secrets/hourglass/database_url}
- {name: REDIS_URL_FILE, value: /run/secrets/hourglass/redis_url}
{{- range $name := list "jwt_secret" "session_secret" "pin_pepper" }}
- {name: HOURGLASS_{{ upper $name }}_FILE, value: /run/secrets/hourglass/{{ $name }}}
{{- end }}
{{- range $name := .Values.secrets.previous }}
- {name: HOURGLASS_{{ upper $name }}_FILE, value: /run/secrets/hourglass/{{ $name }}}
{{- end }}
- {name: HOURGLASS_HOST, value: 0.0.0.0}
{{- if .Values.database.pgbouncer }}
- {name: HOURGLASS_DATABASE_PGBOUNCER, value: "true"}
{{- end }}
{{- range $name, $value := .Values.settings }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- if include "hourglass.markets" . }}
- {name: HOURGLASS_MARKETS_FILE, value: /etc/hourglass/markets/markets.toml}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The ConfigMap with the markets file; empty if there is none. */}}
{{- define "hourglass.markets" -}}
{{- if and .Values.markets.file .Values.markets.existingConfigMap -}}
{{- fail "markets.file and markets.existingConfigMap exclude each other" -}}
{{- else if .Values.markets.existingConfigMap -}}
{{- .Values.markets.existingConfigMap -}}
{{- else if .Values.markets.file -}}
{{- include "hourglass.name" . }}-markets
{{- end -}}
{{- end -}}

{{/* Of the API and the worker, beside what every pod has. The folder is mounted, not the file: a single file of a
ConfigMap would never be renewed. */}}
{{- define "hourglass.serviceMounts" -}}
{{- include "hourglass.mounts" . }}
{{- if include "hourglass.markets" . }}
- {name: markets, mountPath: /etc/hourglass/markets, readOnly: true}
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "hourglass.serviceVolumes" -}}
{{- include "hourglass.volumes" . }}
{{- with include "hourglass.markets" . }}
- name: markets
  configMap: {name: {{ . }}, items: [{key: markets.toml, path: markets.toml}]}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "hourglass.mounts" -}}
- {name: secrets, mountPath: /run/secrets/hourglass, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- end -}}

{{- define "hourglass.volumes" -}}
- name: secrets
  secret: {secretName: {{ include "hourglass.secret" . }}, defaultMode: 0440}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: 64Mi}
{{- end -}}

{{- define "hourglass.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "hourglass.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "hourglass.selector" . | nindent 8 }}
{{- end -}}
